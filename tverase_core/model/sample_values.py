"""One value of each weight, to tell models apart whose number formats differ."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

import torch
from torch import Tensor


def packed(values: Iterable[Tensor]) -> str:
    """Single values of any floating dtype as base64 of little-endian float32."""
    made = [value.detach().reshape(1).to("cpu", torch.float32) for value in values]
    raw = torch.cat(made).numpy().astype("<f4").tobytes() if made else b""
    return base64.b64encode(raw).decode()


def unpacked(text: str) -> Tensor:
    """float32 [n]. Raises ValueError on what `packed` does not write."""
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    if len(raw) % 4:
        raise ValueError(f"{len(raw)} bytes are no float32 values")
    # The copy: a buffer of bytes cannot be written, and torch warns of that.
    return torch.frombuffer(bytearray(raw), dtype=torch.float32) if raw else torch.zeros(0)


def within_rounding(
    first: Tensor, first_dtype: str, second: Tensor, second_dtype: str
) -> bool | None:
    """Whether both can be the same values, rounded to nearest; None when that cannot be told.

    first, second: float32 [n]; the dtypes: "float16", or several as "float16+float32", of which
    the coarsest counts. Rounding moves a value by at most half a step of its dtype, eps / 2 of the
    value or half the smallest subnormal, so two roundings of one are both halves apart at most.
    """
    one, two = _coarsest(first_dtype), _coarsest(second_dtype)
    if len(first) != len(second) or one is None or two is None:
        return None
    larger = torch.maximum(first.abs(), second.abs())
    room = (one[0] + two[0]) / 2 * larger + (one[1] + two[1]) / 2
    return bool(((first - second).abs() <= room).all())


def _coarsest(dtypes: str) -> tuple[float, float] | None:
    """(eps, smallest subnormal), the largest of each; None for what is no floating dtype."""
    facts = []
    for name in dtypes.split("+"):
        kind = getattr(torch, name, None)
        if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
            return None
        facts.append(torch.finfo(kind))
    return max(f.eps for f in facts), max(f.smallest_normal * f.eps for f in facts)
