"""Extract Task Vector on the real host, for every way a tuned MODEL can arrive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from host_support.vector_steps import vector_for
from tverase_core.errors import (
    BaseMismatchError,
    KeyMismatchError,
    NonFiniteError,
    ShapeMismatchError,
)
from tverase_core.vector.task_vector import TaskVector

FAMILY_ERRORS = (KeyMismatchError, ShapeMismatchError, BaseMismatchError)


def extract(pack: Any, base: Any, tuned: Any, concept: str = "cat") -> TaskVector:
    from host_support.host_steps import node

    return node(pack, "ExtractTaskVector", base=base, tuned=tuned, concept=concept)[0]


def as_checkpoint(make: Callable[..., Any], held: dict[str, torch.Tensor], like: Any) -> Any:
    """A MODEL of its own with the given weights."""
    model = make(like.model.get_dtype(), like.model.manual_cast_dtype)
    with torch.inference_mode():
        for key, parameter in model.model.named_parameters():
            parameter.copy_(held[key])
    return model


def test_patches_and_materialised_weights_agree(
    pack: Any, tiny_model: Any, make_tiny_model: Callable[..., Any]
) -> None:
    """The patch list holds the float32 deltas; merged weights hold them as far as storage goes."""
    from tverase_pack.nodes.host.model.patching import patched_clone

    from host_support import host_steps as steps

    vector = vector_for(tiny_model)
    tuned = patched_clone(tiny_model, {1.0: vector.deltas})
    exact = extract(pack, tiny_model, tuned)
    assert exact.same_deltas(vector)
    merged = steps.materialised(tuned)
    read = extract(pack, tiny_model, as_checkpoint(make_tiny_model, merged, tiny_model))
    base = steps.weights(tiny_model)
    for key, weight in base.items():
        expected = merged[key].float() - weight.float()
        got = read.deltas.get(key, torch.zeros_like(expected))
        assert torch.equal(got, expected), key
        step = 2 * torch.finfo(weight.dtype).eps * float(merged[key].float().abs().max())
        torch.testing.assert_close(exact.deltas[key], got, rtol=0, atol=step)


def test_on_a_grid_both_ways_agree_to_the_bit(
    pack: Any, tiny_model: Any, make_tiny_model: Callable[..., Any]
) -> None:
    """Weights and deltas on one binary grid: nothing rounds, so both readings must be equal."""
    from tverase_pack.nodes.host.model.patching import patched_clone

    from host_support import host_steps as steps

    with torch.inference_mode():
        for parameter in tiny_model.model.parameters():
            parameter.copy_(((parameter.float() * 2**6).round() / 2**6).to(parameter))
    rough = vector_for(tiny_model)
    vector = TaskVector(
        {key: (delta * 2**6).round() / 2**6 for key, delta in rough.deltas.items()}, rough.base
    )
    tuned = patched_clone(tiny_model, {1.0: vector.deltas})
    other = as_checkpoint(make_tiny_model, steps.materialised(tuned), tiny_model)
    assert extract(pack, tiny_model, tuned).same_deltas(extract(pack, tiny_model, other))


def lora_file(folder: Path, seed: int = 3) -> tuple[str, dict[str, torch.Tensor]]:
    """A rank-2 LoRA of one attention layer in a file; its name and the deltas at strength 1."""
    source = torch.Generator().manual_seed(seed)
    up = torch.randn((64, 2), generator=source)
    down = torch.randn((2, 64), generator=source) * 0.05
    layer = "middle_block_1_transformer_blocks_0_attn1_to_q"
    tensors = {
        f"lora_unet_{layer}.lora_up.weight": up,
        f"lora_unet_{layer}.lora_down.weight": down,
        f"lora_unet_{layer}.alpha": torch.tensor(2.0),
    }
    save_file(tensors, folder / "concept_lora.safetensors")
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    return "concept_lora.safetensors", {key: up @ down}


def test_a_lora_is_a_tuned_model(pack: Any, comfy_host: Any, tiny_model: Any) -> None:
    from host_support import host_steps as steps

    name, expected = lora_file(comfy_host.base / "models" / "loras")
    base = steps.weights(tiny_model)
    with torch.inference_mode():
        (tuned,) = comfy_host.nodes.LoraLoaderModelOnly().load_lora_model_only(
            tiny_model, name, 0.8
        )
    vector = extract(pack, tiny_model, tuned)
    assert set(vector.deltas) == set(expected)
    for key, delta in expected.items():
        torch.testing.assert_close(vector.deltas[key], 0.8 * delta, rtol=1e-4, atol=1e-6)
    assert steps.same(steps.weights(tiny_model), base)


def test_a_patch_that_replaces_a_weight_counts_from_the_base(pack: Any, tiny_model: Any) -> None:
    """Unlike a difference it depends on the weight that it meets."""
    from host_support import host_steps as steps

    key = "diffusion_model.out.2.weight"
    value = torch.ones_like(steps.weights(tiny_model)[key])
    tuned = tiny_model.clone()
    tuned.add_patches({key: ("set", (value,))})
    found = extract(pack, tiny_model, tuned)
    base = steps.weights(tiny_model)[key].float()
    assert list(found.deltas) == [key]
    torch.testing.assert_close(found.deltas[key], value.float() - base, atol=1e-3, rtol=0)


def test_a_base_with_a_lora_of_its_own(pack: Any, comfy_host: Any, tiny_model: Any) -> None:
    """Only what `tuned` has on top counts; a tuned model without the base's LoRA is refused."""
    from tverase_pack.nodes.host.model.patching import patched_clone

    name, _ = lora_file(comfy_host.base / "models" / "loras")
    with torch.inference_mode():
        (styled,) = comfy_host.nodes.LoraLoaderModelOnly().load_lora_model_only(
            tiny_model, name, 1.0
        )
    vector = vector_for(tiny_model)
    tuned = patched_clone(styled, {1.0: vector.deltas})
    assert extract(pack, styled, tuned).same_deltas(vector)
    for other in (tiny_model, patched_clone(tiny_model, {1.0: vector.deltas})):
        with pytest.raises(BaseMismatchError, match="does not carry the base's patches"):
            extract(pack, styled, other)


def test_two_checkpoints(pack: Any, comfy_host: Any, tiny_checkpoint: Path, tmp_path: Path) -> None:
    from host_support.tiny_host import save_checkpoint

    other = tiny_checkpoint.with_name("other.safetensors")
    save_checkpoint(other, seed=40)
    loader = comfy_host.nodes.CheckpointLoaderSimple()
    with torch.inference_mode():
        base, tuned = (loader.load_checkpoint(p.name)[0] for p in (tiny_checkpoint, other))
    vector = extract(pack, base, tuned, "robin")
    assert vector.provenance.concepts == ("robin",)
    first, second = load_file(tiny_checkpoint), load_file(other)
    prefix = "model.diffusion_model."
    for name, before in first.items():
        if name.startswith(prefix):
            key = "diffusion_model." + name.removeprefix(prefix)
            expected = second[name].float() - before.float()
            got = vector.deltas.get(key, torch.zeros_like(expected))
            assert torch.equal(got, expected), key


def test_equal_models_are_refused(
    pack: Any, tiny_model: Any, make_tiny_model: Callable[..., Any]
) -> None:
    from host_support.host_steps import weights

    twin = as_checkpoint(make_tiny_model, weights(tiny_model), tiny_model)
    for tuned in (tiny_model, tiny_model.clone(), twin):
        with pytest.raises(BaseMismatchError, match="exactly the base's weights"):
            extract(pack, tiny_model, tuned)


def test_another_family_is_refused(
    pack: Any, tiny_model: Any, make_tiny_model: Callable[..., Any], monkeypatch: Any
) -> None:
    from host_support import tiny_host

    wide = {**tiny_host.UNET, "channel_mult": [1, 1]}
    deep = {**tiny_host.UNET, "transformer_depth_middle": 2}
    for shape in (wide, deep):
        monkeypatch.setattr(tiny_host, "UNET", shape)
        with pytest.raises(FAMILY_ERRORS, match="one model family"):
            extract(pack, tiny_model, make_tiny_model())


def test_a_broken_weight_is_named(
    pack: Any, tiny_model: Any, make_tiny_model: Callable[..., Any]
) -> None:
    from host_support.host_steps import weights

    held = weights(tiny_model)
    held["diffusion_model.out.2.bias"][0] = float("nan")
    broken = as_checkpoint(make_tiny_model, held, tiny_model)
    with pytest.raises(NonFiniteError, match=r"out\.2\.bias.*NaN"):
        extract(pack, tiny_model, broken)


SD2 = {
    "model_channels": 320,
    "context_dim": 1024,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
}


@pytest.fixture
def make_sd2(make_tiny_model: Callable[..., Any], monkeypatch: Any) -> Callable[[str], Any]:
    """A MODEL that SD2's names fit: 320 channels, a context 1024 wide."""
    from host_support import tiny_host

    monkeypatch.setattr(tiny_host, "UNET", {**tiny_host.UNET, **SD2})
    return lambda prediction: make_tiny_model(prediction=prediction)


@pytest.mark.parametrize(
    ("prediction", "family"),
    [("epsilon", "stable-diffusion-v2-512"), ("v", "stable-diffusion-v2-768-v")],
)
def test_the_model_says_what_it_predicts(
    pack: Any, make_sd2: Callable[[str], Any], prediction: str, family: str
) -> None:
    """Also where the tuned model has no story, so that its vector can be added to one that has."""
    from tverase_pack.nodes.host.model.patching import patched_clone
    from tverase_pack.nodes.host.model.weights import fingerprint
    from tverase_pack.nodes.host.training.session import tuned_clone
    from tverase_pack.tverase_core.vector.provenance import Provenance

    from host_support.host_steps import node

    model = make_sd2(prediction)
    key = "diffusion_model.out.2.bias"
    delta = {key: torch.ones(4)}
    learned = TaskVector(delta, fingerprint(model), Provenance(prediction=prediction))
    told = extract(pack, model, tuned_clone(model, learned))
    untold = extract(pack, model, patched_clone(model, {1.0: delta}))
    assert told.base.architecture == untold.base.architecture == family
    assert untold.provenance.prediction == prediction
    assert torch.equal((told + untold).deltas[key], torch.full((4,), 2.0))
    # As the pack saved it before it asked the model: the vector's word, else epsilon.
    before = fingerprint(model, "epsilon")
    assert before.architecture == "stable-diffusion-v2-512"
    old = TaskVector(delta, before)
    for vector in (told, untold, told + untold, old):
        given = {"model": model, "task_vector": vector, "strength": 1.0, "other_weights": "refuse"}
        (erased,) = node(pack, "ApplyNegatedTV", **given)
        assert key in erased.patches


def test_models_that_predict_something_else(pack: Any, tiny_model: Any) -> None:
    """Extraction says what they predict, and their edits apply."""
    from comfy.model_base import ModelType
    from tverase_pack.nodes.host.model.patching import patched_clone

    tiny_model.model.model_type = ModelType.FLOW
    vector = vector_for(tiny_model)
    made = extract(pack, tiny_model, patched_clone(tiny_model, {1.0: vector.deltas}))
    assert made.provenance.prediction == "flow"
    assert made.base == vector.base


def test_a_vector_of_files_of_a_v_model_combines_with_an_extracted_one(
    pack: Any, make_sd2: Callable[[str], Any]
) -> None:
    """Extract from Files cannot see that a model predicts v; its weights are the same."""
    from tverase_pack.nodes.host.model.patching import patched_clone
    from tverase_pack.nodes.host.model.weights import fingerprint
    from tverase_pack.tverase_core.vector.provenance import Provenance

    from host_support.attack_steps import defaults
    from host_support.host_steps import node

    model, delta = make_sd2("v"), {"diffusion_model.out.2.bias": torch.ones(4)}
    extracted = extract(pack, model, patched_clone(model, {1.0: delta}))
    of_files = TaskVector(delta, fingerprint(model, "epsilon"), Provenance())
    assert extracted.base.architecture != of_files.base.architecture
    cls = pack.NODE_CLASS_MAPPINGS["TVEraseCombineTaskVectors"]
    for first, second in ((extracted, of_files), (of_files, extracted)):
        given = defaults(cls, first=first, second=second)
        both = node(pack, "CombineTaskVectors", **given)[0]
        assert both.base == extracted.base
        assert both.provenance.prediction == "v"


def test_models_of_unlike_precision_are_told(
    pack: Any, make_tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights in float32 and rounded: all of the vector is what rounding has done."""
    from tverase_pack.nodes.host.app import progress

    said: list[str] = []
    monkeypatch.setattr(progress, "show_text", said.append)
    coarse, fine = (make_tiny_model(storage=kind) for kind in (torch.float16, torch.float32))
    extract(pack, coarse, fine)
    assert "base in float16, tuned in float32" in said[-1]
    assert "rounding to float16 alone explains 100.0% of this vector's length" in said[-1]
    extract(pack, fine, make_tiny_model(storage=torch.float32, seed=4))
    assert "explains" not in said[-1]


def test_a_pruned_model_gives_a_vector_of_pruned_weights(
    pack: Any, make_tiny_model: Callable[..., Any]
) -> None:
    from host_support import host_steps as steps

    model, half = make_tiny_model(), {}
    held = steps.weights(model)
    for first in (True, False):
        pruned = {key: value.clone() for key, value in held.items()}
        weight = pruned["diffusion_model.out.2.weight"]
        weight[:, :20] = 0
        weight[:, 20:24] = weight[:, 20:24] if first else 0
        half[first] = extract(pack, model, as_checkpoint(make_tiny_model, pruned, model))
    both = half[True] + half[False]
    assert both.provenance.content == "pruned"
    left = (
        held["diffusion_model.out.2.weight"].float() + both.deltas["diffusion_model.out.2.weight"]
    )
    assert torch.equal(left, pruned["diffusion_model.out.2.weight"].float())
    moved = as_checkpoint(make_tiny_model, {k: v + 0.5 for k, v in held.items()}, model)
    assert extract(pack, model, moved).provenance.content == ""
