"""The low-rank factors of a delta, of the smallest rank that keeps within an error."""

from __future__ import annotations

import torch
from torch import Tensor

SKETCH = 64  # directions that are tried first
ROUNDING = 1e-12  # share of the squared length that rounding to float32 may put elsewhere
LOWEST = 1e-14  # share of the squared length below which sums in float64 tell nothing


def factors_of(delta: Tensor, max_error: float) -> tuple[Tensor, Tensor]:
    """(up [out, r], down [r, rest]), float32: the best product of rank r for the delta as matrix.

    r is the smallest rank, at least 1, whose relative error (Frobenius norm of what is lost over
    that of the delta, 0..1) is not above max_error, or 1e-7, about what rounding the factors to
    float32 adds. Convolutions [out, in, kh, kw] count as matrices [out, in * kh * kw].
    Computed in float64 from the eigenvectors U of A A^T (or V of A^T A, the smaller):
    up = U_r, down = U_r^T A (or up = A V_r, down = V_r^T). Eckart-Young.
    """
    matrix = delta.reshape(delta.shape[0], -1).double()
    wide = matrix.shape[0] <= matrix.shape[1]
    tail = min(ROUNDING, max_error**2)
    values, vectors, outside = _directions(matrix if wide else matrix.T, tail)
    # lost[r]: squared error when the first r directions are used, summed from the smallest on,
    # since a sum that begins with the largest drowns the smallest
    lost = torch.cat([outside[None], values.flip(0)]).cumsum(0).flip(0)
    used = vectors[:, : max(1, int((lost > max(max_error**2, LOWEST) * lost[0]).sum()))]
    up, down = (used, used.T @ matrix) if wide else (matrix @ used, used.T)
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
