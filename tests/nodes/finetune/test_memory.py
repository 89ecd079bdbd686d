"""A fine-tune that fits: recomputed blocks, the memory estimate, checkpoints, SDXL's inputs."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from host_support.saved_by_autograd import saved_by_autograd
from tverase_core.concept_set import ConceptSet, concept_set
from tverase_core.errors import ConfigError
from tverase_core.finetuning.config import FinetuneConfig
from tverase_core.ports import Context

pytestmark = pytest.mark.training


@pytest.fixture
def model(make_tiny_model: Callable[..., Any]) -> Any:
    return make_tiny_model()


def tune(pack: Any, model: Any, pictures: ConceptSet | None = None, **changes: Any) -> Any:
    """What the node returns, text and all."""
    from host_support import host_steps

    pictures = pictures or host_steps.pictures()
    given = {"model": model, "concept_set": pictures, **host_steps.TUNING, "steps": 3}
    with torch.inference_mode():
        return pack.NODE_CLASS_MAPPINGS["TVEraseConceptFinetune"]().tune(**{**given, **changes})


def learned(made: Any) -> dict[str, torch.Tensor]:
    patches = made["result"][0].patches
    return {key: entries[0][1][1][0] for key, entries in patches.items()}


def same(first: Any, second: Any) -> bool:
    one, two = learned(first), learned(second)
    return bool(one) and one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("recompute", ["never", "always"])
def test_a_fused_backward_pass_learns_the_same_bits(pack: Any, model: Any, recompute: str) -> None:
    from host_support import host_steps as steps

    before = steps.weights(model)
    plain, fused = (
        tune(pack, model, gradient_checkpointing=recompute, fused_backward=how)
        for how in ("never", "always")
    )
    assert same(plain, fused)
    assert plain["result"][1] == fused["result"][1]
    assert "with a fused backward pass: " in fused["ui"]["text"][0]
    assert "fused" not in plain["ui"]["text"][0]
    assert steps.same(steps.weights(model), before)


def test_a_fused_backward_pass_of_several_losses_is_refused(pack: Any, model: Any) -> None:
    from host_support.host_steps import pictures

    for changes, why in (
        ({"accumulation": 2}, "accumulation is 2"),
        ({"retained_set": pictures()}, "there is a retained set"),
    ):
        with pytest.raises(ConfigError, match=why):
            tune(pack, model, fused_backward="always", **changes)
        made = tune(pack, model, fused_backward="when needed", **changes)
        assert "fused" not in made["ui"]["text"][0]


def test_the_fastest_way_that_fits_is_taken(
    pack: Any, model: Any, comfy_host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.host.training.plan import Saving, fitting_plan, tuning_plan
    from tverase_pack.tverase_core.finetuning.config import FinetuneConfig

    from host_support.host_steps import pictures

    config = FinetuneConfig(steps=3, batch_size=2, accumulation=1)
    cpu, ways = torch.device("cpu"), [(False, False), (True, False), (False, True), (True, True)]
    needs = [tuning_plan(model, pictures(), config, *way).on(cpu) for way in ways]
    host = comfy_host.comfy.model_management
    for way, need in zip(ways, needs, strict=True):
        monkeypatch.setattr(host, "get_free_memory", lambda *_, need=need, **__: need)
        fits = next(w for w, other in zip(ways, needs, strict=True) if other <= need)
        plan = fitting_plan(model, pictures(), config, Saving())
        assert (plan.recompute, plan.fused) == fits
        assert fitting_plan(model, pictures(), config, Saving(*way)).on(cpu) == need
    monkeypatch.setattr(host, "get_free_memory", lambda *_, **__: 9)
    with pytest.raises(MemoryError, match=r"batch_size 2, accumulation 1, no retained set and fu"):
        fitting_plan(model, pictures(), config, Saving())


@pytest.mark.parametrize("rank", [0, 2])
def test_recomputed_blocks_learn_the_same_bits(pack: Any, model: Any, rank: int) -> None:
    from host_support import host_steps as steps

    before = steps.weights(model)
    plain, again = (
        tune(pack, model, gradient_checkpointing=how, rank=rank) for how in ("never", "always")
    )
    assert same(plain, again)
    assert plain["result"][1] == again["result"][1]
    assert "That is with gradient checkpointing" in again["ui"]["text"][0]
    assert steps.same(steps.weights(model), before)
    assert not any("forward" in vars(module) for module in model.model.modules())


def test_a_block_whose_forward_another_pack_set_has_it_afterwards(pack: Any, model: Any) -> None:
    from tverase_pack.nodes.host.training.recompute import blocks_of, recomputed_blocks

    network = model.model.diffusion_model
    first, *others = blocks_of(network).values()
    first.forward = own = partial(first.forward)
    with recomputed_blocks(network):
        assert first.forward is not own
    assert first.forward is own
    assert not any("forward" in vars(block) for block in others)


def test_the_dry_run_counts_what_autograd_keeps(pack: Any, model: Any) -> None:
    """Against the bytes that the real pass keeps, with all weights in training."""
    from comfy.ldm.modules import attention
    from tverase_pack.nodes.host.model.denoiser import open_denoiser
    from tverase_pack.nodes.host.training.activations import activations
    from tverase_pack.nodes.host.training.recompute import recomputed_blocks

    tokens = torch.randn(2, 77, 32)

    def kept(recompute: bool) -> int:
        x = torch.randn(2, 4, 16, 16)
        with open_denoiser(model) as denoiser:
            network = denoiser.patcher.model.diffusion_model
            shapes = denoiser.weight_shapes()
            deltas = {k: torch.zeros(s, requires_grad=True) for k, s in shapes.items()}
            with denoiser.attached(deltas), saved_by_autograd() as saved:
                if recompute:
                    with recomputed_blocks(network):
                        result = denoiser.predict(x, torch.tensor([1, 2]), Context(tokens))
                else:
                    result = denoiser.predict(x, torch.tensor([1, 2]), Context(tokens))
            assert result.requires_grad
            return saved.nbytes()

    counted = activations(model, (2, 4, 16, 16), lambda key: True, Context(tokens))
    real = kept(False)
    assert counted.whole >= 0.95 * real
    if hasattr(attention, "wrap_attn"):  # else the estimate is high, as its docstring says
        assert counted.whole <= 1.05 * real
    assert counted.outline < 0.4 * counted.whole
    assert counted.largest_block < 0.4 * counted.whole
    # Autograd's hook sees what lies between the blocks; their inputs it does not see.
    assert kept(True) <= counted.outline * 1.05


def test_the_dry_run_leaves_nothing_behind(pack: Any, model: Any) -> None:
    """An operation's kept output that keeps the operation is a circle that Python cannot see."""
    from tverase_pack.nodes.host.training.activations import activations

    def without_content() -> int:
        gc.collect()
        plain = (torch.Tensor, torch.nn.Parameter)
        return sum(type(x) in plain and x.is_meta for x in gc.get_objects())

    before = without_content()
    for _ in range(2):
        activations(model, (2, 4, 16, 16), lambda key: True, Context(torch.randn(2, 77, 32)))
    assert without_content() == before


def test_a_mask_and_a_rank_need_less(pack: Any, model: Any) -> None:
    from dataclasses import replace

    from tverase_pack.nodes.host.training.plan import tuning_plan
    from tverase_pack.tverase_core.finetuning.config import FinetuneConfig

    from host_support.host_steps import pictures

    whole = FinetuneConfig(batch_size=4, accumulation=1)
    variants = {
        "recomputed": tuning_plan(model, pictures(), whole, True),
        "masked": tuning_plan(
            model, pictures(), replace(whole, trainable=lambda key: "output" in key), False
        ),
        "rank": tuning_plan(model, pictures(), replace(whole, rank=2), False),
        "parts": tuning_plan(model, pictures(), replace(whole, accumulation=4), False),
        "8-bit": tuning_plan(model, pictures(), replace(whole, optimizer="adamw8bit"), False),
    }
    most = tuning_plan(model, pictures(), whole, False).device
    assert all(plan.device < most for plan in variants.values()), variants


def test_checkpointing_steps_in_when_the_rest_does_not_fit(
    pack: Any, model: Any, comfy_host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.host.training.plan import tuning_plan
    from tverase_pack.tverase_core.finetuning.config import FinetuneConfig

    from host_support.host_steps import pictures

    config = FinetuneConfig(steps=3, batch_size=2, accumulation=1)
    cpu = torch.device("cpu")
    plain, less = (tuning_plan(model, pictures(), config, how).on(cpu) for how in (False, True))
    room = (plain + less) // 2
    monkeypatch.setattr(comfy_host.comfy.model_management, "get_free_memory", lambda *_, **__: room)
    assert "with gradient" in tune(pack, model)["ui"]["text"][0]
    with pytest.raises(MemoryError, match=r"can be had.*rank 16 \("):
        tune(pack, model, gradient_checkpointing="never", fused_backward="never")


def test_a_stopped_run_goes_on_to_the_same_bits(
    pack: Any, model: Any, comfy_host: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tverase_pack.nodes.host.model.denoiser import HostDenoiser

    paths = comfy_host.folder_paths
    monkeypatch.setattr(paths, "get_output_directory", lambda: str(tmp_path))
    whole = tune(pack, model)
    plain, calls = HostDenoiser.predict, []

    def predict(self: Any, *words: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError("power cut")
        return plain(self, *words)

    monkeypatch.setattr(HostDenoiser, "predict", predict)
    with pytest.raises(ZeroDivisionError):
        tune(pack, model, checkpoint_every=2)
    folder = tmp_path / "task_vectors" / "unfinished"
    assert len(list(folder.iterdir())) == 1
    said: list[str] = []
    told = "tverase_pack.nodes.host.app.progress.show_text"
    monkeypatch.setattr(told, said.append)
    resumed = tune(pack, model, checkpoint_every=2)
    assert said[-2].startswith("step 3 of 3, loss")  # not the first of this run
    assert len(calls) == 4  # steps 1 and 2, the failed third, the third again
    assert same(resumed, whole)
    assert not list(folder.iterdir())


def test_8_bit_without_its_package_says_so(
    pack: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.host.training import adamw_8bit as eight_bit

    monkeypatch.setattr(eight_bit.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        tune(pack, model, optimizer="AdamW 8-bit")


def test_8_bit_with_its_package_gets_the_settings(
    pack: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for bitsandbytes that computes what AdamW does."""
    from types import SimpleNamespace

    from tverase_pack.nodes.host.training import adamw_8bit as eight_bit

    plain = tune(pack, model)
    stand_in = SimpleNamespace(AdamW8bit=partial(torch.optim.AdamW, fused=True))
    monkeypatch.setattr(eight_bit.util, "find_spec", lambda name: name)
    monkeypatch.setattr(eight_bit.importlib, "import_module", lambda name: stand_in)
    assert same(tune(pack, model, optimizer="AdamW 8-bit"), plain)


def test_8_bit_learns_almost_the_same_and_keeps_moments_of_one_byte(
    pack: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = pytest.importorskip("bitsandbytes", reason="the optional bitsandbytes is missing")
    from tverase_pack.nodes.host.training import session as tuning

    made: list[torch.optim.Optimizer] = []

    def kept(weights: list[torch.Tensor], config: FinetuneConfig) -> torch.optim.Optimizer:
        made.append(eight_bit_adamw(weights, config))
        return made[0]

    eight_bit_adamw = tuning.eight_bit_adamw
    monkeypatch.setattr(tuning, "eight_bit_adamw", kept)
    plain = learned(tune(pack, model))
    eight = learned(tune(pack, model, optimizer="AdamW 8-bit"))
    assert isinstance(made[0], package.optim.AdamW8bit)
    # Tensors below 4096 values keep float32 moments, as the package's authors advise.
    widths = {state["state1"].dtype for state in made[0].state.values()}
    assert widths == {torch.uint8, torch.float32}
    assert eight.keys() == plain.keys()
    whole, short = (torch.cat([d[k].flatten() for k in sorted(d)]) for d in (plain, eight))
    assert torch.nn.functional.cosine_similarity(whole, short, dim=0) > 0.95
    assert short.norm() / whole.norm() == pytest.approx(1, abs=0.05)


def test_sdxl_gets_its_pooled_and_size_inputs(pack: Any, comfy_host: Any) -> None:
    from tverase_pack.nodes.host.model.conditioning import to_context

    from host_support import tiny_host

    model = tiny_host.build_sdxl()
    texts = {"cond": torch.randn(1, 7, tiny_host.WIDTH), "pooled_output": torch.randn(1, 1280)}
    context = to_context(model, [texts])
    assert context.extra["pooled_output"].shape == (1, 1280)
    pictures = concept_set("cat", torch.randn(3, 4, 8, 8), context)
    tuned = tune(pack, model, pictures, gradient_checkpointing="always")
    moved = learned(tuned)["diffusion_model.label_emb.0.0.weight"]
    # Columns: 1280 of the pooled text, then 256 for each of six sizes.
    assert bool((moved.abs().sum(0) > 0)[:1280].any())
    assert bool((moved.abs().sum(0) > 0)[1280:].any())
    assert same(tuned, tune(pack, model, pictures, gradient_checkpointing="never"))
