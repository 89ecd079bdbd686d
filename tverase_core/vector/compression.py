"""Smaller task vectors: low rank per tensor, or only the largest entries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError
from ..model.layout import ModelLayout
from ..ports import Progress, quiet
from .task_vector import TaskVector

SKETCH = 64  # directions that are tried first
ROUNDING = 1e-12  # share of the squared length that rounding to float32 may put elsewhere
LOWEST = 1e-14  # share of the squared length below which sums in float64 tell nothing


@dataclass(frozen=True, slots=True)
class Compressed:
    """A simpler task vector and what it cost.

    ranks: by key, of the tensors treated as matrices. errors: by key, relative (Frobenius norm
    of what was lost over that of the delta, 0..1). error: the same over the whole vector.
    kept: numbers needed to write the result down, as a share of the original's.
    """

    vector: TaskVector
    ranks: Mapping[str, int]
    errors: Mapping[str, float]
    error: float
    kept: float


def approximate_low_rank(
    task_vector: TaskVector,
    rank: int | None = None,
    max_error: float | None = None,
    progress: Progress = quiet,
) -> Compressed:
    """The best approximation of every delta by a matrix of low rank (truncated SVD).

    Convolutions [out, in, kh, kw] count as matrices [out, in * kh * kw]; deltas of fewer than
    two axes stay as they are. Give rank (the same for all, at least 1), or max_error (0..1): the
    smallest rank of each tensor whose relative error is not larger. With both, rank is the cap.
    See `factors_of`; used on task vectors here by our own choice. `progress` cancels by raising.
    Raises ConfigError.
    """
    check_limits(rank, max_error)
    deltas: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    written = 0
    for done, (key, delta) in enumerate(task_vector.deltas.items()):
        progress(done, len(task_vector), f"shrinking {key}")
        if delta.ndim < 2:
            deltas[key] = delta
            written += delta.numel()
            continue
        deltas[key], ranks[key] = _truncate(delta, rank, max_error)
        rows = delta.shape[0]
        written += min(ranks[key] * (rows + delta.numel() // rows), delta.numel())
    limits = [f"rank {rank}"] if rank is not None else []
    limits += [f"error {max_error:g}"] if max_error is not None else []
    return _compressed(task_vector, deltas, ranks, written, f"low rank ({', '.join(limits)})")


def check_limits(rank: int | None, max_error: float | None) -> None:
    """Raises ConfigError unless one is given and each that is lies in its range."""
    if rank is None and max_error is None:
        raise ConfigError("low rank: give a rank or a largest error")
    if rank is not None and (not isinstance(rank, int) or rank < 1):
        raise ConfigError(f"low rank: rank: expected a whole number of at least 1, got {rank}")
    if max_error is not None and not 0 <= max_error < 1:
        raise ConfigError(f"low rank: largest error: expected 0 <= e < 1, got {max_error}")


def keep_largest(task_vector: TaskVector, fraction: float) -> Compressed:
    """Only the entries of largest absolute value, over the whole vector; the rest becomes zero.

    fraction: share of all entries, 0 < fraction <= 1; entries as large as the smallest kept one
    stay too. The "trim" step of TIES-Merging (arXiv 2306.01708). Needs room for one more copy of
    the vector. Raises ConfigError.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"fraction: expected more than 0 and at most 1, got {fraction}")
    total = sum(delta.numel() for delta in task_vector.deltas.values())
    threshold = 0.0
    dropped = total - math.ceil(fraction * total)
    if dropped > 0:
        sizes = torch.cat([delta.abs().flatten() for delta in task_vector.deltas.values()])
        threshold = float(sizes.kthvalue(dropped + 1).values)
    deltas = {key: d * (d.abs() >= threshold) for key, d in task_vector.deltas.items()}
    written = sum(int(delta.count_nonzero()) for delta in deltas.values())
    return _compressed(task_vector, deltas, {}, written, f"largest {fraction:g} of the entries")


def keep_top_blocks(task_vector: TaskVector, layout: ModelLayout, count: int) -> Compressed:
    """Only the `count` blocks that the vector changes most (largest norm); the rest becomes zero.

    Raises ConfigError for a count below 1, UnknownKeyError.
    """
    if count < 1:
        raise ConfigError(f"top blocks: expected at least 1, got {count}")
    norms = task_vector.block_norms(layout)
    kept = set(sorted(norms, key=lambda block: -norms[block])[:count])
    deltas = {
        key: delta if layout.block(key) in kept else torch.zeros_like(delta)
        for key, delta in task_vector.deltas.items()
    }
    written = sum(d.numel() for k, d in task_vector.deltas.items() if layout.block(k) in kept)
    step = f"largest {len(kept)} of {len(norms)} blocks"
    return _compressed(task_vector, deltas, {}, written, step)


def factors_of(
    delta: Tensor, rank: int | None = None, max_error: float | None = None
) -> tuple[Tensor, Tensor]:
    """(up [out, r], down [r, rest]), float32: the best product of rank r for the delta as matrix.

    r is the smallest rank whose relative error is not above max_error (or 1e-7, about what
    rounding the factors to float32 adds), at most `rank`, at least 1.
    Computed in float64 from the eigenvectors U of A A^T (or V of A^T A, the smaller):
    up = U_r, down = U_r^T A (or up = A V_r, down = V_r^T). Eckart-Young.
    """
    matrix = delta.reshape(delta.shape[0], -1).double()
    wide = matrix.shape[0] <= matrix.shape[1]
    tail = ROUNDING if max_error is None else min(ROUNDING, max_error**2)
    values, vectors, outside = _directions(matrix if wide else matrix.T, tail)
    used = len(values)
    if max_error is not None:
        # lost[r]: squared error when the first r directions are kept, summed from the smallest on,
        # since a sum that begins with the largest drowns the smallest
        lost = torch.cat([outside[None], values.flip(0)]).cumsum(0).flip(0)
        used = max(1, int((lost > max(max_error**2, LOWEST) * lost[0]).sum()))
    kept = vectors[:, : min(used, len(values) if rank is None else rank)]
    up, down = (kept, kept.T @ matrix) if wide else (matrix @ kept, kept.T)
    return up.float(), down.float()


def _directions(matrix: Tensor, tail: float) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues of M M^T, falling, their eigenvectors as columns, and the sum of all others.

    What was trained with a rank lies in a few directions. These are found by a random sketch
    (arXiv 0909.4061, algorithm 4.1), checked, and decomposed alone: the same result, for the
    matrices of SDXL in a quarter of the time or less. Otherwise all are looked at.
    tail: share of the sum of all that those others may have.
    """
    if len(matrix) > 2 * SKETCH and tail > LOWEST:
        source = torch.Generator().manual_seed(0)
        test = torch.randn(matrix.shape[1], SKETCH, generator=source, dtype=matrix.dtype)
        basis = torch.linalg.qr(matrix @ test)[0]
        inside, whole = basis.T @ matrix, matrix.square().sum()
        outside = (whole - inside.square().sum()).clamp(min=0)
        if outside <= tail * whole:
            values, vectors = torch.linalg.eigh(inside @ inside.T)
            return values.flip(0).clamp(min=0), (basis @ vectors).flip(1), outside
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    return values.flip(0).clamp(min=0), vectors.flip(1), values.new_zeros(())


def _truncate(delta: Tensor, rank: int | None, max_error: float | None) -> tuple[Tensor, int]:
    up, down = factors_of(delta, rank, max_error)
    used = up.shape[1]
    if used == min(delta.shape[0], delta[0].numel()):
        return delta, used
    short = (up.double() @ down.double()).float()
    return short.reshape(delta.shape), used


def _compressed(
    task_vector: TaskVector,
    deltas: Mapping[str, Tensor],
    ranks: Mapping[str, int],
    written: int,
    step: str,
) -> Compressed:
    lost, whole, errors = 0.0, 0.0, {}
    for key, delta in task_vector.deltas.items():
        missing = float((delta.double() - deltas[key].double()).square().sum())
        square = float(delta.double().square().sum())
        errors[key] = math.sqrt(missing / square)
        lost, whole = lost + missing, whole + square
    total = sum(delta.numel() for delta in task_vector.deltas.values())
    return Compressed(
        task_vector.changed(deltas, step),
        ranks,
        errors,
        math.sqrt(lost / whole) if whole else 0.0,
        written / total if total else 1.0,
    )
