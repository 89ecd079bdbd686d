"""A tensor's extremes, which answer what is asked of every weight, and its bytes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def extremes(tensor: Tensor) -> tuple[float, float]:
    """(smallest, largest value); NaN where there is one, (0, 0) of an empty tensor.

    NaN and infinity show in the extremes, and so does whether all values are zero. Far faster than
    to ask every value.
    """
    if not tensor.numel():
        return 0.0, 0.0
    low, high = torch.aminmax(tensor)
    return float(low), float(high)


def all_finite(tensor: Tensor) -> bool:
    """Whether a floating-point tensor holds neither NaN nor infinity."""
    return all(map(math.isfinite, extremes(tensor)))


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The raw little-endian bytes of a CPU tensor of any dtype, without a copy if contiguous."""
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return memoryview(flat.numpy())  # type: ignore[arg-type]
