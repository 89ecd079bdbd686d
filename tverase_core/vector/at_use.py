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

    - float32 weights: the sum, in place where the weight is a copy that nobody else has.
    - 16-bit weights: the sum where rounding it loses next to nothing, else a `SplitWeight`. Its
      second part is two thin factors where the delta is their product, and `thin` allows it: for
      layers that are linear in this weight.
    """

    def __init__(self, delta: Tensor, scale: float, *, thin: bool = False):
        """delta: float32 or bfloat16, the weight's shape."""
        self.delta, self.scale, self.keep = delta, scale, True
        self._thin = thin
        self._ready: Tensor | Factors | None = None
        self._for: torch.dtype | None = None
        self._shift, self._whole = 0, False

    def __call__(self, weight: Tensor, kept: Tensor | None = None) -> Tensor:
        """kept: what the layer owns and must not be written to."""
        if isinstance(weight, SplitWeight) or weight.itemsize < 2:
            return added(weight, self.delta, self.scale)
        ready = self._part(weight)
        if not (self.keep or isinstance(ready, Factors)):
            self._ready = None
        if isinstance(ready, Factors) or not self._whole:
            return SplitWeight.from_parts(weight, ready, self._shift)
        alpha = 2.0**-self._shift if weight.dtype in HALF_TYPES else self.scale
        if kept is not None and not _shares(weight, kept):
            return weight.add_(ready, alpha=alpha)
        return weight.add(ready, alpha=alpha)

    def _part(self, weight: Tensor) -> Tensor | Factors:
        """What is added to a weight of this dtype."""
        if self._for is weight.dtype and self._ready is not None:
            return self._ready
        delta, first = (
            self.delta.to(weight.device, non_blocking=True),
            self._for is not weight.dtype,
        )
        self._for, self._ready = weight.dtype, delta
        if weight.dtype in HALF_TYPES:
            self._ready, self._shift = half_part(delta, self.scale, weight.dtype)
            if first:
                self._whole = _loss(weight, delta, self.scale) <= ONE_TENSOR
                thin = thin_factors(delta) if self._thin and not self._whole else None
                if thin is not None:
                    up, down = (self.scale * thin[0]).to(weight), thin[1].to(weight)
                    self._ready, self._shift = Factors(up, down), 0
        elif first:
            self._whole = True
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
