"""What is asked of tensors of every kind: extremes, bytes, and the memory that they hold."""

from __future__ import annotations

import math
from collections.abc import Iterable

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


def memory_bytes(tensors: Iterable[Tensor]) -> int:
    """Main memory that the CPU tensors hold, in bytes; what they share counts once.

    A view holds the whole tensor that it is cut from. A file that is mapped counts in full.
    """
    storages = [tensor.untyped_storage() for tensor in tensors if tensor.device.type == "cpu"]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
