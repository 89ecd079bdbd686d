"""Angles, projections, low rank: laws and hand-made cases."""

from __future__ import annotations

import math

import pytest
import torch

from host_support.edit_samples import BASE, KEYS, LAYOUT, only, vector, weights
from tverase_core.errors import BaseMismatchError, ConfigError
from tverase_core.model.fingerprint import BaseFingerprint
from tverase_core.vector.algebra import (
    block_cosines,
    cosine,
    inner_product,
    orthogonalise,
    weighted_sum,
)
from tverase_core.vector.compression import SKETCH, factors_of
from tverase_core.vector.task_vector import TaskVector

EMPTY = TaskVector({}, BASE)
CONTEXT_KEYS = [key for key in KEYS if "attn2" in key]


def make(values: list[float], key: str = KEYS[0]) -> TaskVector:
    return TaskVector({key: torch.tensor(values)}, BASE)


def test_cosine() -> None:
    a, b = vector(1), vector(2)
    assert cosine(a, a) == pytest.approx(1)
    assert cosine(a, -a) == pytest.approx(-1)
    assert cosine(a, b) == pytest.approx(cosine(b, a)) == pytest.approx(cosine(a * 3.0, b * 0.5))
    assert cosine(make([1, 0]), make([1, 1])) == pytest.approx(0.5**0.5)
    assert cosine(make([1, 0]), make([1, 0], KEYS[1])) == 0
    assert cosine(a, EMPTY) == 0
    assert inner_product(a, a) == pytest.approx(a.norm() ** 2)


def test_block_cosines() -> None:
    a, b = vector(1), vector(2)
    found = block_cosines(a, b, LAYOUT)
    assert tuple(found) == LAYOUT.blocks()
    one, two = a.block_norms(LAYOUT), b.block_norms(LAYOUT)
    total = sum(found[block] * one[block] * two[block] for block in found)
    assert total == pytest.approx(inner_product(a, b))
    half = only(a, lambda key: "middle" in key)
    assert block_cosines(half, a, LAYOUT)["M00"] == pytest.approx(1)
    assert block_cosines(half, a, LAYOUT)["IN01"] == 0


def test_other_base_is_refused() -> None:
    other = TaskVector(weights(2), BaseFingerprint("xl", "2" * 64))
    for operation in (cosine, inner_product, lambda a, b: orthogonalise(a, [b])):
        with pytest.raises(BaseMismatchError):
            operation(vector(1), other)


def test_orthogonalise() -> None:
    a, others = vector(1), [vector(2), vector(3)]
    found = orthogonalise(a, others)
    for other in others:
        assert abs(cosine(found, other)) < 1e-6
    assert cosine(found, a) > 0  # it stays on the concept's side
    assert orthogonalise(found, others).norm() == pytest.approx(found.norm())
    assert orthogonalise(a, []).same_deltas(a)
    assert orthogonalise(a, [EMPTY]).same_deltas(a)
    assert orthogonalise(make([1, 2]), [make([1, 0])]).same_deltas(make([0, 2]))


def test_what_only_the_other_has_is_taken_out_too() -> None:
    """(3, -) less its share of (1, 2) is (3, 0) - 3 / 5 * (1, 2)."""
    a = TaskVector({KEYS[0]: torch.tensor([3.0])}, BASE)
    other = TaskVector({KEYS[0]: torch.tensor([1.0]), KEYS[1]: torch.tensor([2.0])}, BASE)
    found = orthogonalise(a, [other])
    assert [float(found.deltas[key]) for key in KEYS[:2]] == pytest.approx([2.4, -1.2])


def test_a_sum_has_each_vector_by_its_factor() -> None:
    a, b = vector(1), vector(2)
    assert weighted_sum([(a, 2.0), (b, -0.5)]).same_deltas(a + a - b * 0.5)
    with pytest.raises(ConfigError, match="nothing is left"):
        weighted_sum([(a, 1.0), (a, -1.0)])


@pytest.mark.parametrize("times", [1.0, 2.3, 0.37, -1.7])
def test_of_a_vector_that_lies_in_the_others_nothing_is_left(times: float) -> None:
    """Rounding alone would be saved as a vector, and erase nothing."""
    a = make(torch.randn(4096, generator=torch.Generator().manual_seed(0)).tolist())
    assert len(orthogonalise(a, [a * times])) == 0


def test_orthogonalise_against_itself_and_dependent_vectors() -> None:
    a, b = vector(1), vector(2)
    assert orthogonalise(a, [a * 2.0]).norm() < 1e-5 * a.norm()
    once, twice = orthogonalise(a, [b]), orthogonalise(a, [b, b * 3.0, -b])
    assert (once - twice).norm() < 1e-5 * a.norm()


@pytest.mark.parametrize("shape", [(200, 300), (300, 200)], ids=["wide", "tall"])
@pytest.mark.parametrize("rank", [5, 64, 200], ids=["few", "as many as are tried first", "all"])
def test_large_matrices_of_any_rank_are_the_truncated_svd(
    shape: tuple[int, int], rank: int
) -> None:
    """Few directions are found by a sketch; where they do not hold the matrix it must not count."""
    source = torch.Generator().manual_seed(rank)
    rows, columns = shape
    left = torch.randn(rows, rank, generator=source)
    delta = left @ torch.randn(rank, columns, generator=source)
    u, s, vh = torch.linalg.svd(delta, full_matrices=False)
    for used in (1, 4, rank):
        lost = [float(s[r:].norm() / s.norm()) for r in (used, used - 1)]
        up, down = factors_of(delta, sum(lost) / 2)
        assert up.shape[1] == used
        best = (u[:, :used] * s[:used]) @ vh[:used]
        assert torch.allclose(up @ down, best, atol=1e-3 * float(s[0]) / 10)
    up, down = factors_of(delta, 1e-4)
    assert up.shape[1] <= rank
    assert (up @ down - delta).norm() <= 1e-4 * delta.norm()


@pytest.mark.parametrize("shape", [(200, 300), (300, 200)], ids=["wide", "tall"])
@pytest.mark.parametrize("tail", [5e-7, 3e-6])
@pytest.mark.parametrize("bound", [0.0, 1e-7, 2e-7, 5e-7, 1e-6, 2e-6, 1e-5])
def test_the_smallest_errors_are_kept_too(
    shape: tuple[int, int], tail: float, bound: float
) -> None:
    """A tail that lies in all directions may be lost only where the bound allows it."""
    source = torch.Generator().manual_seed(1)

    def drawn(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=source, dtype=torch.float64)

    main, noise = drawn(shape[0], 16) @ drawn(16, shape[1]), drawn(*shape)
    delta = (main + tail * noise * main.norm() / noise.norm()).float()
    up, down = factors_of(delta, bound)
    lost = (up.double() @ down.double() - delta.double()).norm() / delta.double().norm()
    assert lost <= math.hypot(max(bound, 1e-7), 1e-7)  # of two float32 factors
    if bound > tail:
        assert up.shape[1] == 16


def low_rank_matrix() -> torch.Tensor:
    """Of rank 16, rounded to float32."""
    source = torch.Generator().manual_seed(2)
    return torch.randn(300, 16, generator=source) @ torch.randn(16, 400, generator=source)


def decomposed(monkeypatch: pytest.MonkeyPatch, delta: torch.Tensor, bound: float) -> int:
    """How many directions it is decomposed into."""
    sizes, whole = [], torch.linalg.eigh

    def watched(matrix: torch.Tensor) -> object:
        sizes.append(len(matrix))
        return whole(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", watched)
    factors_of(delta, bound)
    monkeypatch.undo()
    return sizes[0]


def test_all_directions_are_looked_at_only_where_few_cannot_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delta = low_rank_matrix()
    for bound in (1e-6, 1e-3, 0.5):
        assert decomposed(monkeypatch, delta, bound) == SKETCH
    assert decomposed(monkeypatch, delta, 0.0) == 300
    one = torch.zeros(300, 400)
    one[0, 0] = 1  # of which nothing is left outside
    assert decomposed(monkeypatch, one, 0.0) == 300


@pytest.mark.parametrize("bound", [0.0, 0.1, 0.4, 0.8])
def test_the_rank_is_the_smallest_within_the_bound(bound: float) -> None:
    for delta in vector(1).deltas.values():
        if delta.ndim < 2:
            continue
        matrix = delta.flatten(1).double()
        up, down = factors_of(delta, bound)
        assert (up.double() @ down.double() - matrix).norm() <= (bound + 1e-6) * matrix.norm()
        fewer = torch.linalg.svdvals(matrix)[up.shape[1] - 1 :]
        assert up.shape[1] == 1 or fewer.norm() > bound * matrix.norm()
