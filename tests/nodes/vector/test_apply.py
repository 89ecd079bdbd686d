"""Apply Negated TV on the real host: exact arithmetic, all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from host_support.vector_steps import erase, vector_for
from tverase_core.errors import (
    BaseMismatchError,
    KeyMismatchError,
    ShapeMismatchError,
    StrengthError,
    TveraseError,
)
from tverase_core.model.block_mask import BlockMask
from tverase_core.model.fingerprint import BaseFingerprint
from tverase_core.vector.erase import erased_weights
from tverase_core.vector.task_vector import TaskVector


def layout(model: Any) -> Any:
    from tverase_pack.nodes.host.model.weights import layout_of

    return layout_of(model)


def test_strength_zero_is_the_same_object(pack: Any, tiny_model: Any) -> None:
    assert erase(pack, tiny_model, vector_for(tiny_model), 0.0) is tiny_model


@pytest.mark.parametrize("strength", [0.3, 1.0, 1.75])
def test_the_host_computes_what_the_core_computes(
    pack: Any, tiny_model: Any, strength: float
) -> None:
    from host_support import host_steps as steps

    base, vector = steps.weights(tiny_model), vector_for(tiny_model)
    expected = dict(erased_weights(base, vector, strength, BlockMask.full(), layout(tiny_model)))
    got = steps.materialised(erase(pack, tiny_model, vector, strength))
    assert steps.same(got, {**base, **expected})
    assert not steps.same(got, base)


def test_weights_that_the_host_does_not_take_are_told(pack: Any, tiny_model: Any) -> None:
    from tverase_pack.nodes.host.model.patching import patched_clone

    plan = {
        -1.0: {"diffusion_model.out.2.bias": torch.ones(4), "diffusion_model.no": torch.ones(1)}
    }
    with pytest.raises(
        KeyMismatchError, match=r"took 1 of 2 weights and refused diffusion_model\.no"
    ):
        patched_clone(tiny_model, plan)
    assert not tiny_model.patches


def test_unpatching_restores_the_base(pack: Any, tiny_model: Any) -> None:
    from host_support import host_steps as steps

    base, drawn = steps.weights(tiny_model), steps.output(tiny_model)
    erased = erase(pack, tiny_model, vector_for(tiny_model), 1.0)
    assert not torch.equal(steps.output(erased), drawn)
    assert torch.equal(steps.output(tiny_model), drawn)  # the host changes over by itself
    assert steps.same(steps.weights(tiny_model), base)


def test_plus_and_minus_are_the_base(pack: Any, tiny_model: Any) -> None:
    """Two appended patches round once each, so the base comes back where sums are exact."""
    from tverase_pack.nodes.host.model.patching import patched_clone

    from host_support import host_steps as steps

    exact = TaskVector(
        {k: (d * 2**12).round() / 2**12 for k, d in vector_for(tiny_model).deltas.items()},
        vector_for(tiny_model).base,
    )
    grid = patched_clone(tiny_model, {1.0: on_grid(tiny_model)})
    start = steps.materialised(grid)
    added = patched_clone(grid, {0.5: exact.deltas})
    assert not steps.same(steps.materialised(added), start)
    assert steps.same(steps.materialised(erase(pack, added, exact, 0.5)), start)


def on_grid(model: Any) -> dict[str, torch.Tensor]:
    """What moves every weight to a multiple of 2**-7, so that sums with deltas are exact."""
    from host_support.host_steps import weights

    return {
        key: ((w.float() * 2**7).round() / 2**7 - w.float()) for key, w in weights(model).items()
    }


def test_erasing_takes_back_what_was_learned(pack: Any, tiny_model: Any) -> None:
    """tuned = base + delta, and tuned - 1 * delta has the base's weights as stored."""
    from tverase_pack.nodes.host.model.patching import patched_clone

    from host_support import host_steps as steps

    vector = vector_for(tiny_model)
    tuned = patched_clone(tiny_model, {1.0: vector.deltas})
    got, base = steps.materialised(erase(pack, tuned, vector, 1.0)), steps.weights(tiny_model)
    if base["diffusion_model.out.2.weight"].dtype == torch.float16:
        assert steps.same(got, base)  # float32 sums of half weights come back on rounding
    for key, weight in base.items():
        torch.testing.assert_close(got[key], weight, rtol=1e-6, atol=1e-6)


def test_a_mask_touches_only_its_blocks(pack: Any, tiny_model: Any) -> None:
    from host_support import host_steps as steps

    mask = BlockMask.only(blocks=("IN01", "M00"))
    vector, base = vector_for(tiny_model), steps.weights(tiny_model)
    got = steps.materialised(erase(pack, tiny_model, vector, 1.0, block_mask=mask))
    moved = {key for key in base if not torch.equal(got[key], base[key])}
    assert {layout(tiny_model).block(key) for key in moved} == {"IN01", "M00"}
    expected = dict(erased_weights(base, vector, 1.0, mask, layout(tiny_model)))
    assert steps.same(got, {**base, **expected})


def test_a_mask_scales(pack: Any, tiny_model: Any) -> None:
    from host_support import host_steps as steps

    mask = BlockMask({"IN01": 0.25, "M00": 0.5}, other_blocks=1.0)
    vector, base = vector_for(tiny_model), steps.weights(tiny_model)
    got = steps.materialised(erase(pack, tiny_model, vector, 1.5, block_mask=mask))
    expected = dict(erased_weights(base, vector, 1.5, mask, layout(tiny_model)))
    assert steps.same(got, {**base, **expected})


def missing_key(vector: TaskVector) -> TaskVector:
    extra = {"diffusion_model.input_blocks.9.0.in_layers.2.weight": torch.ones(2, 2)}
    return replace(vector, deltas={**vector.deltas, **extra})


def wrong_shape(vector: TaskVector) -> TaskVector:
    return replace(vector, deltas={**vector.deltas, "diffusion_model.out.2.bias": torch.ones(5)})


def other_family(vector: TaskVector) -> TaskVector:
    return replace(vector, base=BaseFingerprint("stable-diffusion-v1", "0" * 64))


def other_weights(vector: TaskVector) -> TaskVector:
    return replace(vector, base=replace(vector.base, sample_sha256="1" * 64))


@pytest.mark.parametrize(
    ("spoil", "error", "sentence"),
    [
        (missing_key, KeyMismatchError, r"lacks 1 of .*input_blocks\.9\.0.*Load the model"),
        (wrong_shape, ShapeMismatchError, r"out\.2\.bias: shape \[4\] .* \[5\]"),
        (other_family, BaseMismatchError, "different architecture.*Load the model"),
        (other_weights, BaseMismatchError, "different weights"),
    ],
)
def test_a_vector_that_does_not_fit_changes_nothing(
    pack: Any,
    tiny_model: Any,
    spoil: Callable[[TaskVector], TaskVector],
    error: type[TveraseError],
    sentence: str,
) -> None:
    from host_support import host_steps as steps

    base = steps.weights(tiny_model)
    with pytest.raises(error, match=sentence):
        erase(pack, tiny_model, spoil(vector_for(tiny_model)), 1.0)
    assert not tiny_model.patches
    assert steps.same(steps.weights(tiny_model), base)
    assert steps.same(steps.materialised(tiny_model), base)


def test_other_weights_can_be_allowed(pack: Any, make_tiny_model: Callable[..., Any]) -> None:
    vector, descendant = vector_for(make_tiny_model(seed=0)), make_tiny_model(seed=9)
    with pytest.raises(BaseMismatchError, match="different weights"):
        erase(pack, descendant, vector, 1.0)
    assert erase(pack, descendant, vector, 1.0, other_weights="allow").patches


@pytest.mark.parametrize("strength", [-0.5, float("inf"), float("-inf"), float("nan")])
def test_a_strength_that_is_none(pack: Any, tiny_model: Any, strength: float) -> None:
    with pytest.raises(StrengthError, match="expected a finite number >= 0, got"):
        erase(pack, tiny_model, vector_for(tiny_model), strength)
    assert not tiny_model.patches


def build_scaled(seed: int = 3) -> Any:
    """A MODEL of the host's scaled 8-bit format: W = scale * stored, a scale for each matrix."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.ops

    from host_support import tiny_host

    if not hasattr(comfy.ops, "scaled_fp8_ops"):
        pytest.skip("this ComfyUI keeps scaled 8-bit weights in another way")
    small = torch.float8_e4m3fn
    source = tiny_host.build_model(storage=torch.float32, seed=seed).model.diffusion_model
    with torch.inference_mode():
        config = tiny_host.TinySD15(dict(tiny_host.UNET))
        config.scaled_fp8 = small
        config.set_inference_dtype(torch.float16, torch.float32)
        model = comfy.model_base.BaseModel(config, device="cpu")
        for name, weight in source.state_dict().items():
            layer = model.diffusion_model.get_submodule(name.rpartition(".")[0])
            held = getattr(layer, name.rpartition(".")[2])
            if held.dtype == small and held.ndim > 1:
                scale = weight.abs().max() / 448
                layer.scale_weight.copy_(scale)
                weight = weight / scale
            held.copy_(weight.to(held.dtype))
    return comfy.model_patcher.ModelPatcher(model, tiny_host.CPU, tiny_host.CPU)


@torch.inference_mode()  # as in a node
def test_the_told_rounding_is_what_the_host_does_to_scaled_weights(
    pack: Any, comfy_host: Any
) -> None:
    from tverase_pack.nodes.host.model.patching import measure_rounding, patched_clone

    from host_support import host_steps as steps
    from host_support.edit_samples import compare_changes

    model = build_scaled()

    def read(key: str) -> torch.Tensor:
        """What the layer computes with now, float32."""
        layer = model.model.get_submodule(key.rpartition(".")[0])
        weight = layer.weight.detach().to(torch.float32, copy=True)
        undo_scale = getattr(layer, "convert_weight", None)
        return undo_scale(weight, inplace=True) if undo_scale else weight

    # The edit is small beside the weights: most of it is lost where a scale is coarse.
    source = torch.Generator().manual_seed(8)
    keys = [k for k in steps.weights(model) if k.endswith(".weight") and read(k).ndim == 2]
    before = {key: read(key) for key in keys}
    meant = {
        key: 0.01 * float(w.abs().median()) * torch.randn(w.shape, generator=source)
        for key, w in before.items()
    }
    held = steps.weights(model)
    told = measure_rounding(model, {-1.0: meant})
    assert steps.same(steps.weights(model), held)  # nothing was stored
    clone = patched_clone(model, {-1.0: meant})
    clone.patch_model(device_to=torch.device("cpu"))
    real = compare_changes(
        {key: -delta for key, delta in meant.items()},
        {key: read(key).double() - before[key].double() for key in keys},
    )
    clone.unpatch_model(device_to=torch.device("cpu"))
    assert real.lost > 0.5
    assert told.lost == pytest.approx(real.lost, rel=0.15)


def test_the_rounding_seed_is_the_hosts_own_and_no_warning(
    pack: Any, comfy_host: Any, make_tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer hosts have the function elsewhere, and warn at each call of the old one."""
    import comfy.model_patcher
    import comfy.utils
    from tverase_pack.nodes.host.model.patching import measure_rounding

    asked: list[str] = []
    monkeypatch.setattr(
        comfy.utils, "string_to_seed", lambda key: asked.append(key) or 5, raising=False
    )
    monkeypatch.setattr(comfy.model_patcher, "string_to_seed", None)
    model = make_tiny_model()
    vector = vector_for(model)
    measure_rounding(model, {-1.0: vector.deltas})
    assert set(asked) == set(vector.deltas)


@pytest.mark.parametrize("storage", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("precision", ["patch", "runtime_exact"])
@pytest.mark.injections
def test_a_base_in_another_number_format(
    pack: Any, make_tiny_model: Any, storage: torch.dtype, precision: str
) -> None:
    """Its own weights rounded pass, and it is said; another model's are refused; a vector whose
    file says too little passes, and it is said that the base could not be verified."""
    cls = pack.NODE_CLASS_MAPPINGS["TVEraseApplyNegatedTV"]
    vector = vector_for(make_tiny_model(storage=torch.float32))

    def apply(made: TaskVector, seed: int, other_weights: str = "refuse") -> Any:
        model = make_tiny_model(storage=storage, seed=seed)
        given = {"strength": 1.0, "other_weights": other_weights, "precision": precision}
        with torch.inference_mode():
            return cls().apply(model=model, task_vector=made, **given)

    assert "agrees as far as the coarser" in apply(vector, 0)["ui"]["text"][0]
    with pytest.raises(BaseMismatchError, match="different weights"):
        apply(vector, 5)
    assert apply(vector, 5, "allow")
    silent = replace(vector, base=replace(vector.base, sample_values=None))
    assert "could not be verified" in apply(silent, 0)["ui"]["text"][0]
