"""Deltas of low rank: delta = up @ down in every matrix (our addition to the paper).

The form is that of LoRA (arXiv 2106.09685). A product is made when the denoiser asks for it and
lives as long as autograd needs it, so no dense delta, gradient or moment is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

UP, DOWN = "up", "down"


class LowRankDeltas(Mapping[str, Tensor]):
    """Dense deltas by weight key, each computed from its factors anew at every look-up.

    shapes: two or more axes each; the first counts as rows, all others together as columns.
    factors: float32 by "<key>/up" [rows, r] and "<key>/down" [r, columns]; gradients flow to them.
    """

    def __init__(self, shapes: Mapping[str, torch.Size], factors: Mapping[str, Tensor]):
        self._shapes, self._factors = shapes, factors

    def __getitem__(self, key: str) -> Tensor:
        up, down = self.factors(key)
        return (up @ down).view(self._shapes[key])

    def factors(self, key: str) -> tuple[Tensor, Tensor]:
        """(up, down) of a weight, for those who need no dense delta."""
        return self._factors[f"{key}/{UP}"], self._factors[f"{key}/{DOWN}"]

    def __contains__(self, key: object) -> bool:
        return key in self._shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def factor_shapes(shape: Sequence[int], rank: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Shapes of up and down for a weight; a rank beyond the matrix is cut to what it can have."""
    rows, columns = shape[0], math.prod(shape[1:])
    inner = min(rank, rows, columns)
    return (rows, inner), (inner, columns)


def starting_factors(
    shapes: Mapping[str, torch.Size], rank: int, seed: int, device: torch.device
) -> dict[str, Tensor]:
    """Trainable factors for `LowRankDeltas`. up is zero, so every delta starts at exactly zero."""
    source = torch.Generator().manual_seed(seed)
    factors = {}
    for key, shape in shapes.items():
        tall, wide = factor_shapes(shape, rank)
        down = torch.randn(wide, generator=source) / wide[1] ** 0.5
        factors[f"{key}/{UP}"] = torch.zeros(tall, device=device, requires_grad=True)
        factors[f"{key}/{DOWN}"] = down.to(device).requires_grad_()
    return factors
