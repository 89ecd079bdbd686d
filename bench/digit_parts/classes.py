"""The class embedding: ten directions on the unit sphere in four dimensions, with the core's port.

The empty text is the origin, which belongs to no direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tverase_core.ports import Context

from .denoiser import CLASS

TOWER = "class"
NAMES = tuple(str(digit) for digit in range(10))


def spread_directions(seed: int) -> Tensor:
    """Ten unit vectors pushed apart from a random start, float32 [10, 4].

    Random ones would put some digits so close that the model mixes them up.
    """
    source = torch.Generator().manual_seed(seed)
    free = torch.randn(len(NAMES), CLASS, generator=source).requires_grad_()
    optimizer = torch.optim.Adam([free], 0.05)
    for _ in range(200):
        unit = functional.normalize(free, dim=1)
        # The square of a zero distance has a gradient where the distance has none.
        apart = (unit[:, None] - unit[None]).square().sum(2) + 9 * torch.eye(len(NAMES))
        loss = apart.pow(-2).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return functional.normalize(free.detach(), dim=1)


class ClassEncoder:
    """ports.TextEncoder whose words are the digits' names; one token a text."""

    def __init__(self, directions: Tensor):
        """directions: float32 [10, 4], unit vectors."""
        self.directions = directions

    def widths(self) -> Mapping[str, int]:
        """One tower of width 4."""
        return {TOWER: CLASS}

    def word_vectors(self, word: str) -> Mapping[str, Tensor]:
        """The digit's direction, [1, 4]."""
        return {TOWER: self.directions[NAMES.index(word)][None]}

    def last_tokens(self, texts: Sequence[str], tower: str) -> list[int]:
        """There is one token."""
        return [0 for _ in texts]

    def vocabulary(self, tower: str) -> Tensor:
        """All ten directions."""
        return self.directions.clone()

    def encode(self, texts: Sequence[str]) -> Context:
        """One row a name; the empty text is the origin."""
        rows = [self.directions[NAMES.index(t)] if t else torch.zeros(CLASS) for t in texts]
        return Context(torch.stack(rows)[:, None])

    def encode_with(self, vectors: Mapping[str, Tensor], template: str | Sequence[str]) -> Context:
        """Learned vectors [n, 1, 4], brought onto the sphere."""
        return Context(functional.normalize(vectors[TOWER], dim=2))


def grid(n: int, d: int = CLASS) -> Tensor:
    """The attack of complexity n: directions of the n^d points of a grid, float32 [m, d].

    As the authors' public code has it: n values from -1 up, the end left out, in each axis, every
    point brought onto the unit sphere. For n = 1 that is one direction; even n have the origin,
    which has no direction and is left out (there it becomes NaN): m is n^d or one less.
    """
    axis = torch.tensor([-1 + 2 * k / n for k in range(n)])
    points = torch.cartesian_prod(*[axis] * d).view(-1, d)
    return functional.normalize(points[points.norm(dim=1) > 0], dim=1)
