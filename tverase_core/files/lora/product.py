"""A module's tensors in a LoRA file -> the two factors of its weight's delta."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import FormatError, ShapeMismatchError, listed


@dataclass(frozen=True, slots=True)
class LoraFactors:
    """up float32 [out, r, ...] with alpha / rank in it, down float32 [r, in, ...]."""

    up: Tensor
    down: Tensor

    def product(self) -> Tensor:
        """The delta [out, in, ...]."""
        flat = self.up.flatten(1) @ self.down.flatten(1)
        return flat.reshape(self.up.shape[0], *self.down.shape[1:])


def lora_factors(
    parts: Mapping[str, Tensor], shape: tuple[int, ...], where: str = "lora"
) -> LoraFactors:
    """The two factors of a weight's delta, from a module's tensors `up`, `down`, `mid`, `alpha`.

    up [out, r, ...], down [r, in, ...], or [r, in * kh * kw] as ComfyUI's Train LoRA writes a
    convolution's; mid [r, r, kh, kw] goes into down. alpha: one number, the rank if it is absent.
    shape: of the weight; factors of a 1x1 convolution may lack its last axes. Raises FormatError,
    ShapeMismatchError.
    """
    if not {"up", "down"} <= parts.keys():
        raise FormatError(f"{where}: has only {listed(list(parts))}; up and down belong together")
    up, down = parts["up"].float(), parts["down"].float()
    if min(len(shape), up.ndim, down.ndim) < 2 or math.prod(up.shape[2:]) != 1:
        raise FormatError(
            f"{where}: expected factors [out, r] or [out, r, 1, 1] and [r, in, ...] of a weight "
            f"[out, in, ...], got up {list(up.shape)} and down {list(down.shape)} of a weight of "
            f"shape {list(shape)}. Download the LoRA again, or give another."
        )
    fits = up.shape[1] == down.shape[0] > 0
    if fits and "mid" in parts:
        mid = parts["mid"].float()
        fits = mid.ndim == 4 and mid.shape[:2] == (down.shape[0], down.shape[0])
        fits = fits and math.prod(down.shape[2:]) == 1
        # Asked before it is multiplied out: a few kilobytes can stand for more than any memory.
        fits = fits and down[0].numel() * math.prod(mid.shape[2:]) == math.prod(shape[1:])
        if fits:
            down = torch.einsum("mnkl,ni->mikl", mid, down.flatten(1))
    elif fits and down.ndim == 2 < len(shape) and down.shape[1] == math.prod(shape[1:]):
        down = down.reshape(down.shape[0], *shape[1:])
    got = (up.shape[0], *down.shape[1:])
    short, long = sorted((got, tuple(shape)), key=len)
    if not fits or long[: len(short)] != short or any(n != 1 for n in long[len(short) :]):
        raise ShapeMismatchError(
            f"{where}: up {list(parts['up'].shape)} and down {list(parts['down'].shape)} do not "
            f"give a weight of shape {list(shape)}. The LoRA was made for another model.",
            where,
            shape,
            got,
        )
    if "alpha" in parts:
        if parts["alpha"].numel() != 1:
            raise FormatError(
                f"{where}: alpha holds {parts['alpha'].numel()} numbers; expected one"
            )
        up = up * (float(parts["alpha"]) / down.shape[0])
    ones = [1] * (len(shape) - 2)
    return LoraFactors(up.reshape(*up.shape[:2], *ones), down.reshape(down.shape[0], *shape[1:]))


def whole_difference(tensor: Tensor, shape: tuple[int, ...], where: str) -> Tensor:
    """A `.diff` of a weight or bias as float32 of `shape`; axes of one at the end may be missing.

    Raises ShapeMismatchError.
    """
    short, long = sorted((tuple(tensor.shape), tuple(shape)), key=len)
    if long[: len(short)] != short or any(n != 1 for n in long[len(short) :]):
        raise ShapeMismatchError(
            f"{where}: a difference of shape {list(tensor.shape)} for a weight of shape "
            f"{list(shape)}. The file was made for another model.",
            where,
            shape,
            tuple(tensor.shape),
        )
    return tensor.float().reshape(shape)
