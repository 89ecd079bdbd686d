"""Angles and projections of task vectors, for choosing what to subtract."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError, NonFiniteError, ShapeMismatchError
from ..model.layout import ModelLayout
from .task_vector import TaskVector, check_same_shapes, common_base


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
    the others may depend on one another. Keys of the result are the union. Our own use of plain
    linear algebra, not from the paper.
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
    return task_vector.changed(deltas, f"orthogonalised against {len(useful)} task vectors")


@dataclass(frozen=True, slots=True)
class ContextProjection:
    """A task vector that leaves retained contexts alone.

    rank of width: directions of the context space that are protected, out of all.
    keys: the changed weights. taken: share of their squared length that was projected out.
    """

    vector: TaskVector
    rank: int
    width: int
    keys: tuple[str, ...]
    taken: float


def project_from_contexts(
    task_vector: TaskVector,
    contexts: Tensor,
    layout: ModelLayout,
    rank_tolerance: float = 1e-3,
) -> ContextProjection:
    """Take retained contexts out of the deltas of cross-attention keys and values.

    delta (I - P), P the projector on the span of the contexts' directions whose singular value
    exceeds rank_tolerance times the largest: such a context c then gives (W - a delta) c = W c.
    A larger tolerance protects fewer directions and keeps more of the delta. Null-space
    constraints on weight edits are known from AlphaEdit (arXiv 2410.02355); applying them to a
    task vector for erasure is our own combination.

    contexts: float [n, d] or [n, s, d], the retained prompts' text-encoder output. Deltas [out, d].
    Raises ShapeMismatchError (width), NonFiniteError, ConfigError when nothing can be projected
    or the contexts span the whole width.
    """
    keys = [key for key in task_vector.deltas if layout.reads_context(key)]
    if not keys:
        raise ConfigError(
            "this task vector changes no cross-attention keys or values of a known layout, "
            "so retained contexts cannot be projected out of it"
        )
    if not 0 < rank_tolerance < 1 or contexts.ndim not in (2, 3) or not contexts.numel():
        raise ConfigError(
            f"contexts: expected [n, d] or [n, s, d], n >= 1, and a tolerance between 0 and 1; "
            f"got {list(contexts.shape)} and {rank_tolerance}"
        )
    width = contexts.shape[-1]
    for key in keys:
        if task_vector.deltas[key].shape[1] != width:
            shape = task_vector.deltas[key].shape
            raise ShapeMismatchError(
                f"{key}: takes contexts of width {shape[1]}, the retained ones have {width}. "
                "Encode them with this model's text encoder.",
                key,
                (shape[0], width),
                shape,
            )
    basis = _basis(contexts.detach().cpu().double().reshape(-1, width), rank_tolerance)
    if basis.shape[1] == width:
        raise ConfigError(
            f"the retained contexts span all {width} directions, which leaves nothing to erase "
            f"with. Give fewer prompts or a rank tolerance above {rank_tolerance}."
        )
    deltas, before, after = dict(task_vector.deltas), 0.0, 0.0
    for key in keys:
        delta = deltas[key].double()
        projected = delta - (delta @ basis) @ basis.T
        before += float(delta.square().sum())
        after += float(projected.square().sum())
        deltas[key] = projected.float()
    step = f"kept off {basis.shape[1]} of {width} context directions"
    changed = task_vector.changed(deltas, step)
    return ContextProjection(changed, basis.shape[1], width, tuple(keys), 1 - after / before)


def _basis(contexts: Tensor, rank_tolerance: float) -> Tensor:
    """Orthonormal columns [d, r] that span the contexts [n, d], float64."""
    if not bool(torch.isfinite(contexts).all()):
        raise NonFiniteError("retained contexts hold NaN or infinity; encode them again")
    squares, vectors = torch.linalg.eigh(contexts.T @ contexts)
    protected: Tensor = vectors[:, squares > rank_tolerance**2 * squares[-1].clamp(min=0)]
    return protected


def _dot(first: Tensor, second: Tensor) -> float:
    return float(torch.dot(first.flatten().double(), second.flatten().double()))
