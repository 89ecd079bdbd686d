"""Concept Fine-tune on the real host: it learns, and leaves no trace in the base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tverase_core.errors import BaseMismatchError, NonFiniteError
from tverase_core.model.block_mask import BlockMask

pytestmark = pytest.mark.training
SETTINGS: dict[str, Any] = {
    "steps": 2,
    "learning_rate": 1e-3,
    "batch_size": 4,
    "accumulation": 2,
    "seed": 3,
    "flip": True,
    "ema": False,
    "weight_decay": 0.01,
    "gradient_clip": 1.0,
    "rank": 0,
}
STORAGES = {
    "fp16 stored, fp32 computed": (torch.float16, torch.float32),
    "fp32 throughout": (torch.float32, None),
}


def tune(pack: Any, model: Any, **changes: Any) -> Any:
    """The tuned MODEL."""
    from host_support.host_steps import node, pictures

    given = {"model": model, "concept_set": pictures(), **SETTINGS, **changes}
    return node(pack, "ConceptFinetune", **given)[0]


def deltas(pack: Any, base: Any, tuned: Any) -> dict[str, torch.Tensor]:
    from host_support.host_steps import node

    return dict(node(pack, "ExtractTaskVector", base=base, tuned=tuned, concept="")[0].deltas)


def denoiser_class() -> Any:
    from tverase_pack.nodes.host.model.denoiser import HostDenoiser

    return HostDenoiser


def leave_no_trace(pack: Any, model: Any, action: Callable[[], Any]) -> None:
    """Run `action`; afterwards the base is what it was, in every way a user could notice."""
    from host_support import host_steps as steps

    before, drawn = steps.weights(model), steps.output(model)
    action()
    assert steps.same(steps.weights(model), before)
    for name, module in model.model.named_modules():
        for kind in ("weight_function", "bias_function"):
            assert not getattr(module, kind, []), f"a wrapper is left on {name}"
    with torch.inference_mode():
        model.partially_load(torch.device("cpu"), 100_000)
        again = steps.applied(model, *steps.inputs(), torch.full((2,), 1.5))
    assert torch.equal(again, drawn)
    assert torch.equal(steps.output(model), drawn)
    assert all(p.grad is None for p in model.model.parameters())


def test_the_base_is_untouched(pack: Any, tiny_model: Any) -> None:
    leave_no_trace(pack, tiny_model, lambda: tune(pack, tiny_model))


def test_a_guided_fine_tune_learns_and_leaves_no_trace(
    pack: Any, tiny_model: Any, tiny_clip: Any
) -> None:
    from host_support.host_steps import node, pictures

    latents = {"samples": pictures().latents}
    given = {"model": tiny_model, "clip": tiny_clip, "latents": latents, "concept": "cat"}
    named = node(pack, "ConceptSetFromLatents", **given, caption="a cat", caption_share=0.5)[0]
    vectors = []
    for guidance in (0.0, 5.0):
        made: list[Any] = []

        def action(guidance: float = guidance, made: list[Any] = made) -> None:
            made.append(tune(pack, tiny_model, concept_set=named, guidance=guidance))

        leave_no_trace(pack, tiny_model, action)
        vectors.append(deltas(pack, tiny_model, made[0]))
    plain, guided = vectors
    assert guided
    assert any(not torch.equal(delta, plain[key]) for key, delta in guided.items())


def test_the_base_is_untouched_after_an_exception(
    pack: Any, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_at(monkeypatch, 3, lambda: (_ for _ in ()).throw(ZeroDivisionError("in the middle")))

    def action() -> None:
        with pytest.raises(ZeroDivisionError, match="in the middle"):
            tune(pack, tiny_model)

    leave_no_trace(pack, tiny_model, action)


def test_the_base_is_untouched_after_cancel_in_mid_step(
    pack: Any, tiny_model: Any, comfy_host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    management = comfy_host.comfy.model_management
    calls = break_at(monkeypatch, 3, lambda: management.interrupt_current_processing(True))
    said: list[str] = []
    monkeypatch.setattr("tverase_pack.nodes.host.app.progress.show_text", said.append)

    def action() -> None:
        with pytest.raises(management.InterruptProcessingException):
            tune(pack, tiny_model)

    try:
        leave_no_trace(pack, tiny_model, action)
    finally:
        management.interrupt_current_processing(False)
    assert len(calls) == 3  # the second half of step 2 was never computed
    assert said[-1] == "cancelled"


def break_at(monkeypatch: pytest.MonkeyPatch, call: int, action: Callable[[], Any]) -> list[int]:
    """Run `action` inside the n-th forward pass (two of them make a step)."""
    plain, calls = denoiser_class().predict, []

    def predict(self: Any, *words: Any) -> Any:
        calls.append(len(calls) + 1)
        predicted = plain(self, *words)
        if len(calls) == call:
            action()
        return predicted

    monkeypatch.setattr(denoiser_class(), "predict", predict)
    return calls


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("storage", STORAGES)
def test_it_learns(
    pack: Any, make_tiny_model: Callable[..., Any], storage: str, prediction: str
) -> None:
    from host_support.host_steps import node, pictures

    stored, computed = STORAGES[storage]
    model = make_tiny_model(stored, computed, prediction)
    changes = {**SETTINGS, "steps": 12, "batch_size": 4, "accumulation": 1, "flip": False}
    tuned, losses, vector = node(
        pack, "ConceptFinetune", model=model, concept_set=pictures(), **changes
    )
    curve = losses["loss"]
    assert len(curve) == 12
    assert sum(curve[-4:]) < sum(curve[:4])
    assert tuned is not model
    assert tuned.model is model.model
    learned = deltas(pack, model, tuned)
    assert len(learned) > 100
    extracted = node(pack, "ExtractTaskVector", base=model, tuned=tuned, concept="")[0]
    assert vector.digest() == extracted.digest()
    assert list(vector.deltas) == list(extracted.deltas)
    assert (vector.base, vector.provenance) == (extracted.base, extracted.provenance)
    assert all(bool(d.isfinite().all()) and d.dtype == torch.float32 for d in learned.values())


def test_equal_seeds_give_equal_bits(pack: Any, tiny_model: Any) -> None:
    first, second, other = (
        deltas(pack, tiny_model, tune(pack, tiny_model, seed=seed)) for seed in (3, 3, 4)
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_rank_limits_every_matrix(pack: Any, tiny_model: Any) -> None:
    learned = deltas(pack, tiny_model, tune(pack, tiny_model, rank=2))
    assert learned
    for key, delta in learned.items():
        assert delta.ndim >= 2, f"{key}: a vector moved"
        assert int(torch.linalg.matrix_rank(delta.flatten(1), rtol=1e-4)) <= 2


def test_a_mask_limits_the_blocks(pack: Any, tiny_model: Any) -> None:
    from tverase_pack.nodes.host.model.weights import layout_of

    layout = layout_of(tiny_model)
    mask = BlockMask.only(blocks=("M00",))
    learned = deltas(pack, tiny_model, tune(pack, tiny_model, block_mask=mask))
    assert {layout.block(key) for key in learned} == {"M00"}


def test_a_patched_model_is_refused(pack: Any, tiny_model: Any) -> None:
    tuned = tune(pack, tiny_model)
    with pytest.raises(BaseMismatchError, match=r"already carries patches on .* straight from"):
        tune(pack, tuned)


def test_a_loss_of_nan_is_named(
    pack: Any, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = denoiser_class().predict
    monkeypatch.setattr(
        denoiser_class(), "predict", lambda self, *words: plain(self, *words) * float("nan")
    )

    def action() -> None:
        with pytest.raises(NonFiniteError, match=r"loss became nan at step 1 of 2.*learning rate"):
            tune(pack, tiny_model)

    leave_no_trace(pack, tiny_model, action)


def test_a_model_without_room_is_refused(
    pack: Any, tiny_model: Any, comfy_host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    management = comfy_host.comfy.model_management
    monkeypatch.setattr(management, "get_free_memory", lambda *_, **__: 1024)
    with pytest.raises(MemoryError, match=r"needs about .* GiB .* block mask"):
        tune(pack, tiny_model)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("storage", STORAGES)
def test_predict_is_the_hosts_model(
    pack: Any, make_tiny_model: Callable[..., Any], storage: str, prediction: str
) -> None:
    """predict(x_t, t) against apply_model(x_t sqrt(1 + s^2), s), which answers with x0."""
    from tverase_pack.nodes.host.model.denoiser import open_denoiser

    from host_support.host_steps import applied, inputs, output
    from tverase_core.ports import Context

    stored, computed = STORAGES[storage]
    model = make_tiny_model(stored, computed, prediction)
    x, tokens = inputs()
    timesteps = torch.tensor([400, 900])
    with open_denoiser(model) as denoiser, torch.no_grad():
        assert denoiser.schedule.prediction == prediction
        native = denoiser.predict(x, timesteps, Context(tokens))
        a = denoiser.schedule.alphas_cumprod[timesteps].float().view(-1, 1, 1, 1)
    sigma = model.get_model_object("model_sampling").sigmas[timesteps]
    output(model)  # loads the plain base
    x0 = applied(model, x * (1 + sigma**2).view(-1, 1, 1, 1).sqrt(), tokens, sigma)
    if prediction == "epsilon":
        expected, got = (x - a.sqrt() * x0) / (1 - a).sqrt(), native
    else:
        expected, got = x0, a.sqrt() * x - (1 - a).sqrt() * native
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


def test_a_retained_set_is_learned_with(pack: Any, make_tiny_model: Callable[..., Any]) -> None:
    from host_support.host_steps import pictures

    model, kept = make_tiny_model(torch.float32, None), pictures(seed=9)
    plain, other = (
        deltas(pack, model, tune(pack, model, retained_set=given, retained_weight=5.0))
        for given in (None, kept)
    )
    assert any(not torch.equal(delta, other[key]) for key, delta in plain.items())


def test_it_learns_through_weights_that_were_loaded_in_inference_mode(
    pack: Any, make_tiny_model: Callable[..., Any]
) -> None:
    """As the host loads them: autograd refuses to save such tensors."""
    with torch.inference_mode():
        model = make_tiny_model(torch.float32, None)
        assert next(model.model.parameters()).is_inference()
        # Gradients pass through all weights, also through those that are not trained.
        tuned = tune(pack, model, block_mask=BlockMask.cross_attention())
    assert deltas(pack, model, tuned)


def test_weights_that_no_function_sees_are_refused_before_loading(
    pack: Any, make_tiny_model: Callable[..., Any]
) -> None:
    from tverase_pack.nodes.host.model.denoiser import open_denoiser

    from host_support import quantised

    weights = quantised.plain_weights(make_tiny_model(torch.float16, None))
    model = quantised.quantised_model(quantised.GGUF, weights)
    needs = pytest.raises(BaseMismatchError, match="Diverse Inversion cannot train in this")
    with needs, open_denoiser(model, purpose="Diverse Inversion"):
        pass
    assert model.model.current_weight_patches_uuid is None


@pytest.mark.parametrize("failing", [False, True])
def test_the_clone_is_unloaded_by_any_way_out(
    pack: Any, make_tiny_model: Callable[..., Any], failing: bool
) -> None:
    """Or its weights would fill the card beside those of the next model."""
    from tverase_pack.nodes.host.model.denoiser import open_denoiser

    model = make_tiny_model(torch.float16, None)
    try:
        with torch.inference_mode(), open_denoiser(model):
            assert not torch.is_inference_mode_enabled()
            assert model.model.current_weight_patches_uuid is not None
            if failing:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert model.model.current_weight_patches_uuid is None


def unload_all(management: Any, patcher: Any) -> None:
    management.unload_all_models()


def unload_a_part(management: Any, patcher: Any) -> None:
    assert patcher.partially_unload(torch.device("cpu"), 500_000) > 0
    assert patcher.model.model_lowvram


def load_the_base(management: Any, patcher: Any) -> None:
    management.load_models_gpu([patcher.parent], force_full_load=True)


@pytest.mark.parametrize("take_away", [unload_all, unload_a_part, load_the_base])
def test_predict_brings_the_model_back(
    pack: Any, make_tiny_model: Callable[..., Any], comfy_host: Any, take_away: Callable[..., None]
) -> None:
    """On a full card a judge, a VAE or another branch pushes the model out between two steps."""
    from tverase_pack.nodes.host.model.denoiser import open_denoiser

    from host_support.host_steps import inputs
    from tverase_core.ports import Context

    model = make_tiny_model(torch.float16, None)
    x, tokens = inputs()
    timesteps, seen = torch.tensor([10, 500]), []
    delta = {"diffusion_model.out.2.bias": torch.ones(4)}
    with open_denoiser(model) as denoiser, torch.no_grad(), denoiser.attached(delta):
        network = denoiser.patcher.model.diffusion_model
        hook = network.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
        before = denoiser.predict(x, timesteps, Context(tokens))
        take_away(comfy_host.comfy.model_management, denoiser.patcher)
        after = denoiser.predict(x, timesteps, Context(tokens))
        assert not denoiser.patcher.model.model_lowvram
        hook.remove()
    assert seen == [torch.float32] * 2
    assert torch.equal(before, after)
