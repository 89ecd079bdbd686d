"""What autograd holds of a pass, for the laws of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Saved:
    """One tensor of each storage that was kept. They live as long as this, so no other storage
    gets the place of one."""

    tensors: dict[int, Tensor] = field(default_factory=dict)

    def keep(self, tensor: Tensor) -> Tensor:
        """An alias: an operation that keeps its own output would hold itself."""
        alias = tensor.detach()
        self.tensors[tensor.untyped_storage()._cdata] = alias
        return alias

    def nbytes(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self.tensors.values())

    def squares(self) -> set[float]:
        return set(map(squares, self.tensors.values()))


def squares(tensor: Tensor) -> float:
    """The sum of them, by which a tensor is known again whatever its shape. Of some hundred sums
    two are by chance the same to three digits, now and then."""
    return round(float(tensor.detach().double().square().sum()), 7)


@contextmanager
def saved_by_autograd() -> Iterator[Saved]:
    """Of the passes inside."""
    saved = Saved()
    with torch.autograd.graph.saved_tensors_hooks(saved.keep, lambda tensor: tensor):
        yield saved
