"""Task vectors form a vector space; what enters is checked, what leaves is frozen."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from host_support.edit_samples import BASE, KEYS, LAYOUT, TEXT_KEY, only, vector, weights
from tverase_core.errors import (
    BaseMismatchError,
    ConfigError,
    EmptyMaskError,
    KeyMismatchError,
    NonFiniteError,
    ShapeMismatchError,
    StrengthError,
    UnknownKeyError,
)
from tverase_core.model.block_mask import BlockMask
from tverase_core.model.fingerprint import BaseFingerprint
from tverase_core.vector.provenance import Parent, Provenance, Recommendation
from tverase_core.vector.task_vector import TaskVector

ZERO = TaskVector({}, BASE)


def test_laws_of_a_vector_space() -> None:
    a, b, c = vector(1), vector(2), vector(3)
    assert (a - a).same_deltas(ZERO)
    assert (a + ZERO).same_deltas(a)
    assert ((a + b) - b).same_deltas(a)
    assert (a + b).same_deltas(b + a)
    assert ((a + b) + c).same_deltas(a + (b + c))
    negative = -a
    assert (-negative).same_deltas(a)
    assert (a + negative).same_deltas(ZERO)
    assert (a * 2.0).same_deltas(a + a)
    assert (2.0 * a).same_deltas(a * 2)
    assert ((a + b) * 0.5).same_deltas(a * 0.5 + b * 0.5)
    assert (a * 0.0).same_deltas(ZERO)


def test_union_of_keys() -> None:
    a = only(vector(1), lambda key: key in KEYS[:4])
    b = only(vector(2), lambda key: key in KEYS[2:6])
    assert list((a + b).deltas) == KEYS[:6]
    assert ((a + b) - b).same_deltas(a)


def test_difference_of_known_weights() -> None:
    base, tuned = weights(0, torch.float16), weights(0, torch.float16)
    tuned[KEYS[0]] = tuned[KEYS[0]] + 0.5
    found = TaskVector.difference(base, tuned, BASE)
    assert list(found.deltas) == [KEYS[0]]
    assert torch.equal(found.deltas[KEYS[0]], torch.full(base[KEYS[0]].shape, 0.5))


def test_difference_restores_the_tuned_weights() -> None:
    base, tuned = weights(0), weights(5)
    found = TaskVector.difference(base, tuned, BASE)
    for key in KEYS:
        assert torch.equal(base[key] + found.deltas.get(key, torch.zeros(())), tuned[key])


def test_difference_is_taken_in_float32() -> None:
    base, tuned = {"diffusion_model.x": torch.tensor([256.0, 1.0])}, {}
    base = {key: value.to(torch.bfloat16) for key, value in base.items()}
    tuned = {"diffusion_model.x": torch.tensor([256.5, 1.0])}  # not a bfloat16 number
    found = TaskVector.difference(base, tuned, BASE)
    assert found.deltas["diffusion_model.x"].tolist() == [0.5, 0.0]


def test_difference_leaves_buffers_out() -> None:
    base = {**weights(0), "diffusion_model.ids": torch.arange(3)}
    tuned = {**weights(1), "diffusion_model.ids": torch.arange(3) + 1}
    assert "diffusion_model.ids" not in TaskVector.difference(base, tuned, BASE).deltas


def test_difference_reports_keys_shapes_and_nan() -> None:
    base, tuned = weights(0), weights(1)
    lost = tuned.pop(KEYS[3])
    tuned["diffusion_model.extra"] = lost
    with pytest.raises(KeyMismatchError, match="same architecture") as keys:
        TaskVector.difference(base, tuned, BASE)
    assert keys.value.missing == (KEYS[3],)
    assert keys.value.unexpected == ("diffusion_model.extra",)

    tuned = {**weights(1), KEYS[0]: torch.zeros(2, 2)}
    with pytest.raises(ShapeMismatchError) as shape:
        TaskVector.difference(base, tuned, BASE)
    assert (shape.value.key, shape.value.got) == (KEYS[0], (2, 2))

    tuned = weights(1)
    tuned[KEYS[2]].view(-1)[0] = float("nan")
    with pytest.raises(NonFiniteError, match=f"{KEYS[2]} in the tuned model"):
        TaskVector.difference(base, tuned, BASE)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_deltas_are_refused_by_name(bad: float) -> None:
    with pytest.raises(NonFiniteError, match=KEYS[1]):
        TaskVector({KEYS[1]: torch.tensor([1.0, bad])}, BASE)
    with pytest.raises(NonFiniteError):
        vector(1) * bad


def test_overflow_is_refused() -> None:
    with pytest.raises(NonFiniteError):
        vector(1) * 1e30 * 1e30


def test_empty_key_is_refused() -> None:
    with pytest.raises(UnknownKeyError):
        TaskVector({"": torch.ones(1)}, BASE)


def test_canonical_form() -> None:
    strided = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).T
    made = TaskVector(
        {"b": strided.requires_grad_(), "a": torch.ones(2), "zero": torch.zeros(3)}, BASE
    )
    assert list(made.deltas) == ["a", "b"]
    delta = made.deltas["b"]
    assert delta.dtype == torch.float32
    assert delta.is_contiguous()
    assert not delta.requires_grad


def test_frozen() -> None:
    a = vector(1)
    with pytest.raises(TypeError):
        a.deltas["x"] = torch.ones(1)  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.base = BASE  # type: ignore[misc]
    with pytest.raises(TypeError):
        a + 1  # type: ignore[operator]
    with pytest.raises(TypeError):
        a * a  # type: ignore[operator]


def test_operations_leave_their_operands_alone() -> None:
    a, b = vector(1), vector(2)
    before = {key: delta.clone() for key, delta in a.deltas.items()}
    a + b, a - b, a * 3.0, -a, a.masked(BlockMask.cross_attention(), LAYOUT)
    assert all(torch.equal(a.deltas[key], before[key]) for key in before)


def test_other_base_and_shape_are_refused() -> None:
    a = vector(1)
    other = TaskVector(weights(2), BaseFingerprint("xl", "2" * 64))
    with pytest.raises(BaseMismatchError, match="different architecture"):
        a + other
    merge = BaseFingerprint(BASE.architecture, BASE.key_digest, "2" * 64, BASE.dtype)
    with pytest.raises(BaseMismatchError, match="different weights"):
        a + TaskVector(weights(2), merge)
    odd = TaskVector({KEYS[0]: torch.ones(3)}, BASE)
    with pytest.raises(ShapeMismatchError):
        a + odd


def test_sum_keeps_the_better_known_base() -> None:
    vague = TaskVector(weights(2), BaseFingerprint(BASE.architecture, BASE.key_digest))
    assert (vague + vector(1)).base == BASE
    assert (vector(1) + vague).base == BASE


def test_norms() -> None:
    v = TaskVector({KEYS[0]: torch.tensor([3.0]), KEYS[-1]: torch.tensor([4.0])}, BASE)
    assert v.norm() == pytest.approx(5.0)
    a = vector(1)
    assert (a * -2.0).norm() == pytest.approx(2 * a.norm())
    norms = a.block_norms(LAYOUT)
    assert tuple(norms) == LAYOUT.blocks()
    assert sum(n**2 for n in norms.values()) == pytest.approx(a.norm() ** 2)


def test_masked() -> None:
    a = vector(1)
    assert a.masked(BlockMask.full(), LAYOUT).same_deltas(a)
    half = BlockMask(other_blocks=0.5)
    assert a.masked(half, LAYOUT).same_deltas(a * 0.5)
    ones = [a.masked(BlockMask.only([block]), LAYOUT) for block in LAYOUT.blocks()]
    total = ones[0]
    for one in ones[1:]:
        total = total + one
    assert total.same_deltas(a)
    with pytest.raises(EmptyMaskError, match="selects none"):
        only(a, lambda key: "attn" in key).masked(BlockMask.only(kinds=["conv"]), LAYOUT)


def test_parts_of_two_models() -> None:
    both = TaskVector({**weights(1), TEXT_KEY: torch.ones(2)}, BASE)
    text = only(both, lambda key: key.startswith("text_encoders."))
    unet = only(both, lambda key: key.startswith("diffusion_model."))
    assert list(text.deltas) == [TEXT_KEY]
    assert (text + unet).same_deltas(both)


def test_parents_of_a_combination() -> None:
    a, b = vector(1), vector(2)
    made = (a * 2.0 - b) * 0.5 + a
    assert made.provenance.parents == (Parent(a.digest(), 2.0), Parent(b.digest(), -0.5))
    assert made.provenance.concepts == ("c1", "c2")
    assert (a - a).provenance.parents == ()


def test_change_drops_the_recommendation_and_is_written_down() -> None:
    a = vector(1, Provenance(recommended=Recommendation(1.5)))
    changed = a.masked(BlockMask.cross_attention(), LAYOUT).provenance
    assert changed.recommended is None
    assert changed.history == ("masked with kind:cross_attn",)
    assert changed.parents == (Parent(a.digest(), 1.0),)


def test_digest_depends_on_values_only() -> None:
    assert vector(1).digest() == vector(1, Provenance(title="x")).digest() != vector(2).digest()


def test_provenance_reports_all_problems() -> None:
    with pytest.raises(ConfigError, match=r"created.*prediction.*concepts.*recipe"):
        Provenance(
            created="yesterday",
            prediction="x0",
            concepts="cat",  # type: ignore[arg-type]
            recipe={"lr": float("nan")},
        )
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(StrengthError):
            Recommendation(bad)


def test_bfloat16_deltas_stay_small_and_read_as_float32() -> None:
    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    key = KEYS[0]
    narrow, wide = (TaskVector({key: v}, BASE) for v in (values, values.float()))
    assert narrow.deltas.stored(key).dtype == torch.bfloat16
    assert narrow.deltas[key].dtype == torch.float32
    assert narrow.same_deltas(wide)
    assert narrow.digest() == wide.digest()
    assert torch.equal((narrow * 0.3).deltas[key], (wide * 0.3).deltas[key])
    assert torch.equal((narrow + narrow * 0.3).deltas[key], (wide + wide * 0.3).deltas[key])
