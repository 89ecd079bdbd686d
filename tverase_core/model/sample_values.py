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


def packed_spread(bits: float, size: float) -> float:
    """What rounding to a packed format may move a value of a weight by, root mean square: twice
    what formats of 8 and of 4 bits do to Gaussian weights, measured.

    bits: of a value, its share of the scales included. size: root mean square of the weight.
    """
    return float(size * 2 ** (-bits / 4 - 1))


def within_rounding(
    first: Tensor,
    first_dtype: str,
    second: Tensor,
    second_dtype: str,
    spread: Tensor | None = None,
) -> bool | None:
    """Whether both can be the same values, rounded to nearest; None when that cannot be told.

    first, second: float32 [n]; the dtypes: "float16", or several as "float16+float32", of which
    the coarsest counts. Rounding moves a value by at most half a step of its dtype, eps / 2 of the
    value or half the smallest subnormal, so two roundings of one are both halves apart at most.
    spread: [n], above 0 where a packed format shares scales among values, which moves a single one
    by an unknown amount: all of these together are judged, by their root mean square.
    """
    names = [*first_dtype.split("+"), *second_dtype.split("+")]
    kinds = [_floating(name) for name in names]
    if len(first) != len(second) or (spread is None and None in kinds):
        return None
    if spread is not None and len(spread) != len(first):
        return None
    apart, shared = (first - second).abs(), torch.zeros(len(first), dtype=torch.bool)
    if spread is not None:
        shared = spread > 0
        if bool(shared.any()) and (apart[shared] / spread[shared]).square().mean() > 1:
            return False
    one, two = _coarsest(first_dtype), _coarsest(second_dtype)
    larger = torch.maximum(first.abs(), second.abs())
    close = apart <= (one[0] + two[0]) / 2 * larger + (one[1] + two[1]) / 2
    return bool((close | shared).all())


def _floating(name: str) -> torch.dtype | None:
    kind = getattr(torch, name, None)
    return kind if isinstance(kind, torch.dtype) and kind.is_floating_point else None


def _coarsest(dtypes: str) -> tuple[float, float]:
    """(eps, smallest subnormal) of the floating dtypes, the largest of each."""
    kinds = [kind for kind in map(_floating, dtypes.split("+")) if kind]
    facts = [torch.finfo(kind) for kind in kinds or [torch.float32]]
    return max(f.eps for f in facts), max(f.smallest_normal * f.eps for f in facts)
