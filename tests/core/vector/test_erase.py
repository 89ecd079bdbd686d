"""Erasing: the sign, the identities, all checks before anything is given out."""

from __future__ import annotations

import math

import pytest
import torch

from host_support.edit_samples import BASE, KEYS, LAYOUT, SHAPES, only, vector, weights
from tverase_core.errors import (
    EmptyMaskError,
    KeyMismatchError,
    NonFiniteError,
    ShapeMismatchError,
    StrengthError,
    UnknownBlockError,
    UnknownKeyError,
)
from tverase_core.model.block_mask import BlockMask
from tverase_core.model.mask_text import parse_mask
from tverase_core.vector.erase import (
    Plan,
    edits,
    erased_weights,
    masked_deltas,
    signed_scale,
    subtracted,
)
from tverase_core.vector.task_vector import TaskVector

FULL = BlockMask.full()
BAD_STRENGTHS = [-1.0, -1e-9, float("nan"), float("inf"), True, "1", None]


def planned(task_vector: TaskVector, strength: float, mask: BlockMask = FULL) -> Plan:
    return subtracted(masked_deltas(task_vector, mask, LAYOUT, SHAPES), strength)


def test_signed_scale() -> None:
    assert signed_scale(1.5) == -1.5
    assert signed_scale(2, 0.25) == -0.5
    for zero in (signed_scale(0.0), signed_scale(-0.0), signed_scale(3.0, 0.0)):
        assert zero == 0
        assert math.copysign(1, zero) == 1


@pytest.mark.parametrize("bad", BAD_STRENGTHS)
def test_bad_strength(bad: float) -> None:
    with pytest.raises(StrengthError):
        signed_scale(bad)
    with pytest.raises(StrengthError):
        erased_weights(weights(), vector(), bad, FULL, LAYOUT)
    with pytest.raises(StrengthError):
        planned(vector(), bad)


def test_bad_coefficient() -> None:
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(StrengthError):
            signed_scale(1.0, bad)


def test_hand_computed() -> None:
    key = "diffusion_model.out.2.bias"
    tv = TaskVector({key: torch.tensor([1.0, -2.0, 0.0])}, BASE)
    base = {key: torch.tensor([1.0, 1.0, 1.0])}
    erased = dict(erased_weights(base, tv, 1.5, BlockMask({"FINAL": 0.5}), LAYOUT))
    assert erased[key].tolist() == [0.25, 2.5, 1.0]


def test_strength_one_undoes_the_fine_tune() -> None:
    """W_base - (W_tuned - W_base), and from the tuned model back to the base."""
    base, tuned = weights(0), weights(5)
    tv = TaskVector.difference(base, tuned, BASE)
    for key, weight in erased_weights(tuned, tv, 1.0, FULL, LAYOUT):
        assert torch.equal(weight, base[key])
    for key, weight in erased_weights(base, tv, 1.0, FULL, LAYOUT):
        assert torch.equal(weight, 2 * base[key] - tuned[key])


def test_strength_zero_yields_nothing() -> None:
    assert list(erased_weights(weights(), vector(), 0.0, FULL, LAYOUT)) == []
    assert planned(vector(), 0.0) == {}


def test_empty_vector_yields_nothing() -> None:
    assert list(erased_weights(weights(), TaskVector({}, BASE), 1.0, FULL, LAYOUT)) == []


def test_only_changed_keys_in_order() -> None:
    mask = BlockMask.cross_attention()
    keys = [key for key, _ in erased_weights(weights(), vector(), 1.0, mask, LAYOUT)]
    assert keys == [key for key in KEYS if ".attn2." in key]


def test_mask_and_strength_are_linear() -> None:
    base, tv = weights(), vector()
    by_mask = dict(erased_weights(base, tv, 2.0, BlockMask(other_blocks=0.5), LAYOUT))
    by_strength = dict(erased_weights(base, tv, 1.0, FULL, LAYOUT))
    assert all(torch.equal(by_mask[key], by_strength[key]) for key in KEYS)
    mask = parse_mask("IN01, M00=0.5, /op/=0.25", LAYOUT.blocks())
    masked_first = dict(erased_weights(base, tv.masked(mask, LAYOUT), 2.0, FULL, LAYOUT))
    masked_late = dict(erased_weights(base, tv, 2.0, mask, LAYOUT))
    assert masked_first.keys() == masked_late.keys()
    assert all(torch.equal(masked_first[key], masked_late[key]) for key in masked_late)


def test_erasing_twice_adds_up() -> None:
    base, tv = weights(), vector()
    once = {**base, **dict(erased_weights(base, tv, 0.5, FULL, LAYOUT))}
    twice = dict(erased_weights(once, tv, 1.0, FULL, LAYOUT))
    together = dict(erased_weights(base, tv, 1.5, FULL, LAYOUT))
    assert all(torch.equal(twice[key], together[key]) for key in KEYS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_one_cast_to_the_stored_dtype(dtype: torch.dtype) -> None:
    base, tv = weights(0, dtype), vector()
    before = {key: weight.float() for key, weight in base.items()}
    for key, weight in erased_weights(base, tv, 0.3, FULL, LAYOUT):
        exact = base[key].float() + signed_scale(0.3) * tv.deltas[key]
        assert weight.dtype == dtype
        assert torch.equal(weight.float(), exact.to(dtype).float())
    assert all(torch.equal(before[key], base[key].float()) for key in base)


def test_plan_groups_by_scale() -> None:
    tv = vector()
    mask = parse_mask("IN*, M00=0.5, OUT00=0.5", LAYOUT.blocks())
    plan = planned(tv, 2.0, mask)
    assert list(plan) == [-2.0, -1.0]
    assert {LAYOUT.block(key) for key in plan[-1.0]} == {"M00", "OUT00"}
    assert all(tv.deltas[key] is delta for deltas in plan.values() for key, delta in deltas.items())


def test_plan_is_what_erasing_does() -> None:
    base, tv = weights(), vector()
    mask = parse_mask("full, M00=0.5, !IN02", LAYOUT.blocks())
    plan = planned(tv, 1.25, mask)
    patched = {k: base[k] + scale * d for scale, deltas in plan.items() for k, d in deltas.items()}
    erased = dict(erased_weights(base, tv, 1.25, mask, LAYOUT))
    assert patched.keys() == erased.keys()
    assert all(torch.equal(patched[key], erased[key]) for key in erased)


def test_masked_deltas_have_no_sign() -> None:
    """mask * delta is what strength 1 subtracts, and a model meets it with the factor -1."""
    tv = vector()
    mask = parse_mask("IN*, M00=0.5, OUT00=0.25", LAYOUT.blocks())
    deltas = masked_deltas(tv, mask, LAYOUT, SHAPES)
    assert list(deltas) == [1.0, 0.5, 0.25]
    masked = tv.masked(mask, LAYOUT)
    for factor, group in deltas.items():
        assert all(torch.equal(factor * delta, masked.deltas[key]) for key, delta in group.items())
    assert [-scale for scale in subtracted(deltas, 1.0)] == list(deltas)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_edit_says_what_was_meant_and_reads_once(dtype: torch.dtype) -> None:
    base, tv, asked = weights(0, dtype), vector(), list[str]()

    def read(key: str) -> torch.Tensor:
        asked.append(key)
        return base[key]

    for edit in edits(read, planned(tv, 0.3)):
        assert torch.equal(edit.before, base[edit.key])
        assert edit.meant.dtype == torch.float32
        assert torch.equal(edit.meant, signed_scale(0.3) * tv.deltas[edit.key])
        assert torch.equal(edit.after, (base[edit.key].float() + edit.meant).to(dtype))
    assert asked == KEYS


def test_all_checks_come_before_the_first_weight() -> None:
    """Each call raises by itself, without a step of the iteration."""
    base, tv = weights(), vector()
    last = KEYS[-1]
    with pytest.raises(KeyMismatchError) as missing:
        erased_weights({k: w for k, w in base.items() if k != last}, tv, 1.0, FULL, LAYOUT)
    assert missing.value.missing == (last,)
    with pytest.raises(ShapeMismatchError) as shape:
        erased_weights({**base, last: torch.zeros(7)}, tv, 1.0, FULL, LAYOUT)
    assert (shape.value.key, shape.value.expected) == (last, (7,))
    with pytest.raises(UnknownBlockError):
        erased_weights(base, tv, 1.0, BlockMask({"IN11": 0.5}), LAYOUT)
    attention = only(tv, lambda key: "attn" in key)
    with pytest.raises(EmptyMaskError):
        erased_weights(base, attention, 1.0, BlockMask.only(kinds=["conv"]), LAYOUT)
    strange = TaskVector({"vae.x": torch.ones(1)}, BASE)
    with pytest.raises(UnknownKeyError):
        erased_weights({"vae.x": torch.ones(1)}, strange, 1.0, FULL, LAYOUT)


def test_a_masked_key_must_still_fit_the_model() -> None:
    model = {key: shape for key, shape in SHAPES.items() if ".attn2." in key}
    with pytest.raises(KeyMismatchError, match="lacks 11 of the task vector's 14 weights"):
        masked_deltas(vector(), BlockMask.cross_attention(), LAYOUT, model)


def test_a_result_that_does_not_fit_is_an_error() -> None:
    key = KEYS[0]
    tv = TaskVector({key: torch.full(SHAPES[key], 1e4)}, BASE)
    base = {key: torch.zeros(SHAPES[key], dtype=torch.float16)}
    assert dict(erased_weights(base, tv, 6.0, FULL, LAYOUT))
    with pytest.raises(NonFiniteError, match=key):
        list(erased_weights(base, tv, 7.0, FULL, LAYOUT))
