"""The deltas of a task vector: float32 to whoever reads them, in memory as narrow as they came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

KEPT = (torch.float32, torch.bfloat16)  # a file's formats


class DeltaMap(Mapping[str, Tensor]):
    """Read-only, sorted by key. bfloat16 deltas stay bfloat16 in memory: half the room.

    Every access converts anew, which is exact; arithmetic therefore always happens in float32.
    """

    __slots__ = ("_stored",)

    def __init__(self, stored: Mapping[str, Tensor]):
        """stored: CPU, contiguous, float32 or bfloat16, sorted by key."""
        self._stored = dict(stored)

    def __getitem__(self, key: str) -> Tensor:
        return self._stored[key].float()

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def __contains__(self, key: object) -> bool:
        return key in self._stored

    def stored(self, key: str) -> Tensor:
        """The delta as it lies in memory: float32 or bfloat16, equal in value."""
        return self._stored[key]


def stored_delta(deltas: Mapping[str, Tensor], key: str) -> Tensor:
    """A delta of any mapping, not widened where the mapping keeps it narrow."""
    return deltas.stored(key) if isinstance(deltas, DeltaMap) else deltas[key]
