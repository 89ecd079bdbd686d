"""W -> W + scale * delta each time that a layer uses W, as cheap as exactness allows."""

from __future__ import annotations

import torch
from torch import Tensor

from .compression import factors_of
from .split_weight import HALF_TYPES, Factors, SplitWeight, added, half_part

LEAST_ERROR = 2**-8  # of two factors in place of a delta: what bfloat16 rounds each number by
ONE_TENSOR = 0.02  # a sum in 16 bits may lose this much of the delta: cosine 0.9998
CORNER = 128


class AddedAtUse:
    """A function of one weight, for hosts that call such functions at each use.

    What it finds out about the delta and the weight is kept while `keep` is true, at most as many
    bytes as the delta has; `forget` drops it.

    - The delta is a product of two thin matrices (only where `thin` allows: layers that are linear
      in this weight): a `SplitWeight` whose second part is the two factors.
    - float32 weights: the sum, in place where the weight is a copy that nobody else has.
    - 16-bit weights: the sum where rounding it loses next to nothing, else a `SplitWeight`.
    """

    def __init__(self, delta: Tensor, scale: float, *, thin: bool = False):
        """delta: float32 or bfloat16, the weight's shape."""
        self.delta, self.scale, self.keep = delta, scale, True
        self._factors = thin_factors(delta) if thin else None
        self._ready: Tensor | Factors | None = None
        self._for, self._shift, self._whole = torch.float32, 0, False

    def __call__(self, weight: Tensor, kept: Tensor | None = None) -> Tensor:
        """kept: what the layer owns and must not be written to."""
        if isinstance(weight, SplitWeight):
            return added(weight, self.delta, self.scale)
        ready = self._parts(weight)
        if not self.keep:
            self._ready = None
        if isinstance(ready, Factors) or not self._whole:
            return SplitWeight.from_parts(weight, ready, self._shift)
        if weight.dtype != ready.dtype:
            return added(weight, ready, self.scale)
        alpha = 2.0**-self._shift if weight.dtype in HALF_TYPES else self.scale
        if kept is not None and not _shares(weight, kept):
            return weight.add_(ready, alpha=alpha)
        return weight.add(ready, alpha=alpha)

    def _parts(self, weight: Tensor) -> Tensor | Factors:
        if self._ready is not None and self._for is weight.dtype:
            return self._ready
        self._for = weight.dtype
        if self._factors is not None and weight.itemsize > 1:
            up, down = (f.to(weight.device, weight.dtype) for f in self._factors)
            self._ready, self._shift = Factors(up * self.scale, down), 0
        elif weight.dtype in HALF_TYPES:
            delta = self.delta.to(weight.device, non_blocking=True)
            ready, self._shift = half_part(delta, self.scale, weight.dtype)
            self._ready = ready
            self._whole = _loss(weight, delta, self.scale) <= ONE_TENSOR
        else:
            self._ready, self._whole = self.delta.to(weight.device, torch.float32), True
        return self._ready

    def bytes(self) -> int:
        """What is kept, at most."""
        return self.delta.numel() * self.delta.itemsize

    def forget(self) -> None:
        self._ready = None


def thin_factors(delta: Tensor) -> tuple[Tensor, Tensor] | None:
    """(up [out, r], down [r, rest]), float32, whose product is the delta within LEAST_ERROR, where
    they are at most a quarter of its size."""
    matrix = delta.reshape(len(delta), -1)
    most = matrix.numel() // (4 * sum(matrix.shape))
    rows, columns = (torch.linspace(0, n - 1, min(n, CORNER)).long() for n in matrix.shape)
    # No rank is larger than that of the whole, so that most of those that are not thin end here.
    sizes = torch.linalg.svdvals(matrix[rows][:, columns].float())
    if most < 1 or not sizes[0] or int((sizes > 4 * LEAST_ERROR * sizes[0]).sum()) > most:
        return None
    up, down = factors_of(delta, LEAST_ERROR)
    return (up, down) if len(down) <= most else None


def _loss(weight: Tensor, delta: Tensor, scale: float) -> float:
    """Length of what rounding W + scale * delta to W's dtype loses, over that of scale * delta."""
    meant = scale * delta.float()
    total = weight.float() + meant
    return float((total.to(weight.dtype).float() - total).norm() / meant.norm().clamp_min(1e-30))


def _shares(first: Tensor, second: Tensor) -> bool:
    if first.device != second.device:
        return False
    return first.untyped_storage().data_ptr() == getattr(second, "_qdata", second).data_ptr()
