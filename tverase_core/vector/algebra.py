"""Sums, angles and projections of task vectors, for choosing what to subtract."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..errors import ConfigError
from ..model.layout import ModelLayout
from .task_vector import TaskVector, check_same_shapes, common_base

ROUNDING = 1e-6  # share of a vector's length that sums in float32 may leave of nothing


def inner_product(first: TaskVector, second: TaskVector) -> float:
    """Sum over shared keys of the elementwise products, in float64.

    Raises BaseMismatchError, ShapeMismatchError.
    """
    common_base(first, second)
    check_same_shapes(first, second)
    return sum(_dot(d, second.deltas[k]) for k, d in first.deltas.items() if k in second.deltas)


def cosine(first: TaskVector, second: TaskVector) -> float:
    """Cosine of the angle between two vectors, in [-1, 1]; 0 if one of them is empty."""
    lengths = first.norm() * second.norm()
    if not lengths:
        return 0.0
    return max(-1.0, min(1.0, inner_product(first, second) / lengths))


def weighted_sum(parts: Iterable[tuple[TaskVector, float]]) -> TaskVector:
    """The sum of factor times vector; `parts` may load its vectors as they are asked for.

    Raises ConfigError when nothing is left of the sum, BaseMismatchError, ShapeMismatchError.
    """
    total: TaskVector | None = None
    for vector, factor in parts:
        part = vector * factor
        total = part if total is None else total + part
    if total is None or not len(total):
        raise ConfigError("nothing is left of the sum. Give other vectors or factors.")
    return total


def block_cosines(first: TaskVector, second: TaskVector, layout: ModelLayout) -> dict[str, float]:
    """The cosine within each block that either vector touches, in the layout's order."""
    common_base(first, second)
    check_same_shapes(first, second)
    blocks = layout.block_names(first.deltas.keys() | second.deltas.keys())
    products = dict.fromkeys(blocks, 0.0)
    for key, delta in first.deltas.items():
        if key in second.deltas:
            products[layout.block(key)] += _dot(delta, second.deltas[key])
    one, two = first.block_norms(layout), second.block_norms(layout)
    lengths = {block: one.get(block, 0.0) * two.get(block, 0.0) for block in blocks}
    return {
        block: max(-1.0, min(1.0, products[block] / lengths[block])) if lengths[block] else 0.0
        for block in blocks
    }


def orthogonalise(
    task_vector: TaskVector, others: Sequence[TaskVector], tolerance: float = 1e-10
) -> TaskVector:
    """The part of a task vector that is orthogonal to all the others.

    Least squares over whole vectors: v - sum c_i o_i, c = pinv(G) b with G_ij = <o_i, o_j> and
    b_i = <o_i, v> in float64; eigenvalues of the scaled G below `tolerance` count as zero, so
    the others may depend on one another. Keys of the result are the union; of a vector that lies in
    the others, of which only rounding is left, it has none. Our own use of plain linear algebra,
    not from the paper.
    Raises BaseMismatchError, ShapeMismatchError.
    """
    useful = [other for other in others if other.deltas]
    if not useful:
        return task_vector
    units = [1 / other.norm() for other in useful]
    gram = torch.tensor(
        [
            [inner_product(a, b) * ua * ub for b, ub in zip(useful, units, strict=True)]
            for a, ua in zip(useful, units, strict=True)
        ],
        dtype=torch.float64,
    )
    right = torch.tensor(
        [inner_product(other, task_vector) * u for other, u in zip(useful, units, strict=True)],
        dtype=torch.float64,
    )
    inverse = torch.linalg.pinv(gram, rtol=tolerance, hermitian=True)
    factors = (inverse @ right) * torch.tensor(units, dtype=torch.float64)
    deltas = dict(task_vector.deltas)
    for other, factor in zip(useful, factors.tolist(), strict=True):
        for key, delta in other.deltas.items():
            taken = factor * delta
            deltas[key] = deltas[key] - taken if key in deltas else -taken
    left = math.sqrt(sum(_dot(delta, delta) for delta in deltas.values()))
    if left <= ROUNDING * task_vector.norm():
        deltas = {}
    return task_vector.changed(deltas, f"orthogonalised against {len(useful)} task vectors")


def _dot(first: Tensor, second: Tensor) -> float:
    return float(torch.dot(first.flatten().double(), second.flatten().double()))
