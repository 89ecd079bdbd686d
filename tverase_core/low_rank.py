"""Train dense deltas through low-rank factors: delta = up @ down in every matrix (our addition).

The form is that of LoRA (arXiv 2106.09685). The denoiser only ever sees dense deltas, attached
once; their gradient G gives the factors' by the chain rule: G down^T for up, up^T G for down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class _Pair:
    delta: Tensor
    up: Tensor
    down: Tensor


class LowRank:
    """Factors behind dense deltas. up starts at zero, so every delta starts at exactly zero."""

    def __init__(self, deltas: Mapping[str, Tensor], rank: int, seed: int):
        """deltas: float32, two or more axes each (the first against all others), all zero."""
        source = torch.Generator().manual_seed(seed)
        self._pairs = []
        for delta in deltas.values():
            rows, columns = delta.shape[0], delta.shape[1:].numel()
            inner = min(rank, rows, columns)
            down = torch.randn(inner, columns, generator=source) / columns**0.5
            up = torch.zeros(rows, inner)
            self._pairs.append(_Pair(delta, up.to(delta.device), down.to(delta.device)))

    def factors(self) -> list[Tensor]:
        """All up and down matrices, for the optimizer."""
        return [factor for pair in self._pairs for factor in (pair.up, pair.down)]

    @torch.no_grad()
    def pull_gradients(self) -> None:
        """Turn the dense deltas' gradients into the factors' and clear the dense ones."""
        for pair in self._pairs:
            if pair.delta.grad is None:
                continue
            dense = pair.delta.grad.view(len(pair.up), -1)
            pair.up.grad, pair.down.grad = dense @ pair.down.T, pair.up.T @ dense
            pair.delta.grad = None

    @torch.no_grad()
    def push_deltas(self) -> None:
        """Write up @ down into the dense deltas."""
        for pair in self._pairs:
            pair.delta.copy_((pair.up @ pair.down).view_as(pair.delta))
