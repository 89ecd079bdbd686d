"""Exponential moving average of deltas."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

MOST = 0.9999


def ramp(updates: int) -> float:
    """Decay of the next update after `updates` earlier ones: 0 first, then (1 + n) / (10 + n).

    The ramp of the diffusers library's training scripts, which the authors' released code used.
    """
    return min(MOST, (1 + updates) / (10 + updates)) if updates > 0 else 0.0


class DeltaAverage:
    """Average of deltas. Since averaging is linear, it is also average weights minus base.

    It is kept on the CPU, so that a GPU need not hold it.
    """

    def __init__(self, deltas: Mapping[str, Tensor], updates: int = 0):
        """updates: how many steps the given deltas are already the average of."""
        self.deltas = {k: value.detach().to("cpu", copy=True) for k, value in deltas.items()}
        self.updates = updates

    @torch.no_grad()
    def update(self, deltas: Mapping[str, Tensor]) -> None:
        """Move towards `deltas` (same keys and shapes) by one step of the ramp."""
        weight = 1 - ramp(self.updates)
        for key, average in self.deltas.items():
            average.lerp_(deltas[key].detach().to("cpu"), weight)
        self.updates += 1
