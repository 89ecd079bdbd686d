"""What erasing one concept does to others, predicted from their task vectors alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError
from ..model.layout import ModelLayout
from .algebra import block_cosines, cosine, inner_product
from .erase import signed_scale
from .task_vector import TaskVector


@dataclass(frozen=True, slots=True)
class Interference:
    """names: of the n concepts. cosines: float64 [n, n] in -1..1.

    damage: float64 [n, n]; row i, column j: how much of concept j goes when i is erased at its
    strength, in units of erasing j at strength 1. blocks: block cosines of each pair i < j.
    """

    names: tuple[str, ...]
    cosines: Tensor
    damage: Tensor
    blocks: Mapping[tuple[int, int], Mapping[str, float]]

    def to_text(self) -> str:
        """One line a pair: cosine, both damages, and the block where they meet most."""
        lines = []
        for (i, j), by_block in self.blocks.items():
            where = max(by_block, key=lambda block: abs(by_block[block]), default=None)
            most = f"; most alike in {where} ({by_block[where]:+.3f})" if where else ""
            lines.append(
                f"{self.names[i]} and {self.names[j]}: cosine {self.cosines[i, j]:+.3f}; erasing "
                f"{self.names[i]} takes {self.damage[i, j]:+.1%} of {self.names[j]}, erasing "
                f"{self.names[j]} takes {self.damage[j, i]:+.1%} of {self.names[i]}{most}"
            )
        return "\n".join(lines)


def interference(
    vectors: Sequence[TaskVector], layout: ModelLayout, strengths: Sequence[float] | None = None
) -> Interference:
    """Cosines, whole and by block, and predicted damage.

    strengths: what each is to be subtracted at, >= 0; 1 if not given. damage[i, j] =
    a_i <v_i, v_j> / <v_j, v_j>: subtracting a_i v_i subtracts that many v_j, by projection. A
    first-order estimate of our own: it knows weights, not what the network makes of them.
    Raises ConfigError (fewer than two vectors, an empty one), StrengthError, BaseMismatchError.
    """
    count = len(vectors)
    used = [1.0] * count if strengths is None else list(strengths)
    for strength in used:
        signed_scale(strength)
    if count < 2 or len(used) != count or not all(len(vector) for vector in vectors):
        raise ConfigError(
            f"interference: expected two or more task vectors, none empty, and as many strengths; "
            f"got {count} vectors and {len(used)} strengths"
        )
    products = torch.zeros(count, count, dtype=torch.float64)
    cosines = torch.eye(count, dtype=torch.float64)
    blocks = {}
    for i, first in enumerate(vectors):
        products[i, i] = first.norm() ** 2
        for j in range(i + 1, count):
            products[i, j] = products[j, i] = inner_product(first, vectors[j])
            cosines[i, j] = cosines[j, i] = cosine(first, vectors[j])
            blocks[i, j] = block_cosines(first, vectors[j], layout)
    damage = torch.tensor(used, dtype=torch.float64)[:, None] * products / products.diagonal()
    return Interference(tuple(_names(vectors)), cosines, damage, blocks)


def _names(vectors: Sequence[TaskVector]) -> list[str]:
    """The concepts' names, numbered where they repeat."""
    plain = [" + ".join(v.provenance.concepts) or "vector" for v in vectors]
    return [n if plain.count(n) == 1 else f"{n} {i + 1}" for i, n in enumerate(plain)]
