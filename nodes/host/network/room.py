"""Memory in which sums of a weight and its deltas are made, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .layer_gradients import Added


class Room:
    """Holds the last sum only: use it before the next one is made.

    Large memory that is let go of goes back to the system, which clears it anew page by page: with
    SD 1.5's weights that was half of a step's page faults. On GPUs PyTorch keeps it.
    """

    def __init__(self) -> None:
        self._memory = torch.empty(0)

    @torch.no_grad()
    def sum(self, weight: Tensor, added: Sequence[Added]) -> Tensor:
        """weight + factor * delta + ..., float32, with one or more deltas, all on a CPU."""
        (delta, factor), *more = added
        if self._memory.numel() < weight.numel():
            with torch.inference_mode(False):
                self._memory = torch.empty(weight.numel())
        made = self._memory[: weight.numel()].view(weight.shape)
        torch.add(weight.float(), delta, alpha=factor, out=made)
        for delta, factor in more:
            made.add_(delta, alpha=factor)
        return made
