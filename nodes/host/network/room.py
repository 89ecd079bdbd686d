"""Memory that stays while deltas are at work.

Large memory that a CPU lets go of goes back to the system, which clears it anew page by page when
it is asked for again: with weights of SD 1.5's size that was a third of a fine-tune's time. On GPUs
PyTorch keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class Room:
    """For one sum of a weight and its deltas, and for the gradient of each delta."""

    def __init__(self) -> None:
        self._memory = torch.empty(0)
        self._gradients = WeakTensorKeyDictionary()

    @torch.no_grad()
    def sum(self, weight: Tensor, added: Sequence[Added]) -> Tensor:
        """weight + factor * delta + ..., float32, with what is added, all on a CPU.

        Use it before the next one is made.
        """
        first, *more = added
        if self._memory.numel() < weight.numel():
            with torch.inference_mode(False):
                self._memory = torch.empty(weight.numel())
        made = self._memory[: weight.numel()].view(weight.shape)
        torch.add(weight.float(), first.delta, alpha=first.factor, out=made)
        for one in more:
            made.add_(one.delta, alpha=one.factor)
        return made

    def gradient(self, delta: Tensor) -> Tensor:
        """The delta's own memory for its gradient, uninitialized at first."""
        made: Tensor | None = self._gradients.get(delta)
        if made is None:
            made = self._gradients[delta] = torch.empty_like(
                delta, memory_format=torch.contiguous_format, requires_grad=False
            )
        return made


class Added(NamedTuple):
    """factor * delta, in a weight of the delta's shape. hooked: whether its gradient must come by
    autograd."""

    delta: Tensor
    factor: float
    room: Room
    hooked: bool = False
