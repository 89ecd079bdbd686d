"""The host's flow-matching families that draw pictures, tiny and random: open, learn, erase."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from host_support import flow_steps
from host_support.tiny_flow import FAMILIES, build, pictures, texts
from tverase_core.files.task_vector_file import load_task_vector, save_task_vector

pytestmark = pytest.mark.training
EXACT = {"flux-dev", "flux2"}  # in bfloat16 they see another guidance
SETTINGS: dict[str, Any] = {
    "steps": 2,
    "learning_rate": 1e-2,
    "batch_size": 2,
    "accumulation": 1,
    "seed": 3,
    "flip": True,
    "ema": False,
    "weight_decay": 0.01,
    "gradient_clip": 1.0,
    "rank": 0,
}


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest, comfy_host: Any) -> str:
    import comfy.supported_models

    name: str = request.param
    if not hasattr(comfy.supported_models, FAMILIES[name].config):
        pytest.skip(f"this ComfyUI does not know {FAMILIES[name].config}")
    return name


@pytest.fixture(autouse=True)
def _large(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their weights count as large here, as those of the real ones are."""
    from tverase_pack.nodes.host.network import frozen_weight

    monkeypatch.setattr(frozen_weight, "LARGE", 0)


def test_gradients_are_right_and_reach_every_weight_that_can_matter(pack: Any, family: str) -> None:
    """Recomputed blocks that write in place would give wrong ones, and nothing would be said."""
    from host_support.host_steps import same, weights

    model = build(family)
    before = weights(model)
    found = flow_steps.one_pass(model, family)
    dead = tuple(f"diffusion_model.{start}" for start in FAMILIES[family].dead)
    for key, gradient in found.gradients.items():
        moves = gradient is not None and bool(gradient.any())
        assert moves != key.startswith(dead or ("none",)), key
    rise = flow_steps.finite_difference(model, family, found)
    assert rise == pytest.approx(found.slope(), rel=0.02)
    again = flow_steps.one_pass(model, family, recompute=True)
    assert again.loss == found.loss
    for key, gradient in found.gradients.items():
        other = again.gradients[key]
        assert (gradient is None) == (other is None)
        assert gradient is None or torch.equal(gradient, other), key
    assert same(weights(model), before)


def test_the_dry_run_counts_what_autograd_keeps(pack: Any, family: str) -> None:
    model = build(family)
    real = flow_steps.one_pass(model, family, lengths=flow_steps.EQUAL).kept
    assert flow_steps.estimated(model, family) == pytest.approx(real, rel=0.15)


def test_the_network_sees_what_the_host_shows_it(pack: Any, family: str) -> None:
    """x0 = x_t - s * prediction is what the host's own call gives, for each row of unequal texts,
    and a network that hits the target gives the host the clean picture."""
    import comfy.conds
    import comfy.model_management
    import comfy.sampler_helpers
    import comfy.samplers
    from tverase_pack.nodes.host.drawing.sampling import conditioning
    from tverase_pack.nodes.host.model.denoiser import open_denoiser
    from tverase_pack.nodes.host.network.latents import with_time, without_time
    from tverase_pack.nodes.host.network.schedule import schedule_of

    model = build(family)
    x0, noise, shares = flow_steps.inputs(family)
    schedule = schedule_of(model)
    levels = schedule.at(shares)
    x_t, context = schedule.add_noise(x0, noise, levels), texts(family, 5, 7, 5)
    with open_denoiser(model) as denoiser, torch.no_grad():
        made = denoiser.predict(x_t, levels, context)
    sampling = model.get_model_object("model_sampling")
    cosmos = schedule.most < 1
    for row, level in enumerate(levels.tolist()):
        [(_, own)] = context.pick(torch.tensor([row])).even()
        sigma = torch.tensor([level / (1 - level) if cosmos else level])
        scale = 1 + float(sigma) if cosmos else 1.0
        x = with_time(model, x_t[row : row + 1] * scale)
        conds = {"positive": comfy.sampler_helpers.convert_cond(conditioning(own))}
        with torch.inference_mode():
            comfy.model_management.load_models_gpu([model], force_full_load=True)
            model.pre_run()
            ready = comfy.samplers.process_conds(model.model, x, conds, x.device, seed=0)
            host = comfy.samplers.calc_cond_batch(
                model.model, [ready["positive"]], x, sigma, {"transformer_options": {}}
            )[0]
            model.cleanup()
        x0_of = x_t[row : row + 1] - level * made[row : row + 1]
        torch.testing.assert_close(without_time(host), x0_of, rtol=1e-3, atol=1e-3)
        clean = sampling.calculate_denoised(
            sigma, schedule.target(x0, noise, levels)[row], without_time(x)[0]
        )
        torch.testing.assert_close(clean, x0[row], rtol=1e-3, atol=1e-3)


def test_the_fast_way_computes_and_draws_the_same(
    pack: Any, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bfloat16 has 8 bits, so predictions, gradients and latents agree to a few hundredths."""
    from tverase_pack.nodes.host.drawing.sampling import SamplerSettings, sample_latents
    from tverase_pack.nodes.host.model import numerics
    from tverase_pack.nodes.host.model.denoiser import open_denoiser

    monkeypatch.setattr(numerics, "has_fast_bfloat16", lambda device: True)
    model = build(family)
    x, _, shares = flow_steps.inputs(family)
    settings = SamplerSettings(2, 1.5, "euler", "simple", 64, 64)
    found: list[list[torch.Tensor]] = []
    for fast in (False, True):
        with open_denoiser(model, autocast=fast) as denoiser:
            text = texts(family, 5, 7, 5)
            text.tokens.requires_grad_()
            made = denoiser.predict(x, denoiser.schedule.at(shares), text)
            made.square().mean().backward()
            assert text.tokens.grad is not None
            one = texts(family, 5)
            drawn = sample_latents(denoiser.patcher, one, one, [1], settings)
        found.append([made.detach(), text.tokens.grad, drawn])
    for exact, quick in zip(*found, strict=True):
        assert float((exact - quick).norm() / exact.norm()) < 0.08
        assert family in EXACT or not torch.equal(exact, quick)


def tuned(pack: Any, model: Any, name: str, **changes: Any) -> Any:
    from host_support.host_steps import node

    given = {"model": model, "concept_set": pictures(name), **SETTINGS, **changes}
    return node(pack, "ConceptFinetune", **given)


def test_a_fine_tune_erases_as_stock_load_lora_does(
    pack: Any, comfy_host: Any, family: str, tmp_path: Path
) -> None:
    """The whole path on the family: learn, save, load, subtract; nothing of the base moves."""
    import comfy.sd
    import comfy.utils

    from host_support.host_steps import materialised, node, same, weights
    from host_support.vector_steps import erase

    model = build(family)
    before = weights(model)
    learned, *_ = tuned(pack, model, family)
    vector = node(pack, "ExtractTaskVector", base=model, tuned=learned, concept="")[0]
    assert vector.provenance.prediction == "flow"
    dead = tuple(f"diffusion_model.{start}" for start in FAMILIES[family].dead)
    known = {key for key in before if not key.startswith(dead or ("none",))}
    assert set(vector.deltas) <= known
    assert len(vector.deltas) > 0.9 * len(known)
    assert same(materialised(erase(pack, model, vector, 0.0)), before)
    erased = materialised(erase(pack, model, vector, 1.5))
    for key, delta in vector.deltas.items():
        torch.testing.assert_close(erased[key], before[key] - 1.5 * delta, rtol=1e-5, atol=1e-6)
    file = tmp_path / "cat.tv.safetensors"
    save_task_vector(file, vector)
    assert load_task_vector(file).same_deltas(vector)
    with torch.inference_mode():
        stock = comfy.sd.load_lora_for_models(
            model, None, comfy.utils.load_torch_file(str(file), safe_load=True), -1.5, 0.0
        )[0]
    assert same(materialised(stock), erased)
    assert same(weights(model), before)


def test_a_fused_backward_pass_learns_the_same(pack: Any, family: str) -> None:
    """But for rounding: kept gradients of large weights are products made in memory that stays."""
    kept, fused = (
        tuned(pack, build(family), family, gradient_checkpointing="always", fused_backward=how)[2]
        for how in ("never", "always")
    )
    assert kept.deltas.keys() == fused.deltas.keys()
    for key, delta in kept.deltas.items():
        torch.testing.assert_close(fused.deltas[key], delta, rtol=1e-3, atol=1e-4)


def test_the_base_is_untouched_after_an_error_and_a_cancel(
    pack: Any, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.host.app import progress

    from host_support.host_steps import same, weights

    model = build(family)
    before = weights(model)
    classes = [type(module) for module in model.model.modules()]

    for error in (KeyboardInterrupt, RuntimeError):

        def stop(self: Any, done: int, *words: Any, error: Any = error) -> None:
            if done == 1:
                raise error

        monkeypatch.setattr(progress.NodeProgress, "__call__", stop)
        with pytest.raises(error):
            tuned(pack, model, family, gradient_checkpointing="always")
        assert same(weights(model), before)
        assert [type(module) for module in model.model.modules()] == classes
        assert not any("forward" in vars(module) for module in model.model.modules())
