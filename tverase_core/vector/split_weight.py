"""A weight as a sum of two tensors, for layers that compute in 16 bits.

bfloat16 has 8 bits: W - a * delta in one tensor of it loses most of a small delta. Kept apart, both
parts are exact to those 8 bits, and a layer that is linear in its weight gives the same as with
their sum: f(x, W + D) = f(x, W) + f(x, D). It costs that layer a second product. Our derivation;
adding a separate low-rank product to a layer's output is known from LoRA (arXiv 2106.09685).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

HALF_TYPES = (torch.float16, torch.bfloat16)


def added(weight: Tensor, delta: Tensor, scale: float) -> Tensor:
    """weight + scale * delta for use in one forward pass, as exact as its dtype allows.

    weight: float, in the dtype the layer computes in. delta: float, same shape; any dtype and
    device. float32 and wider: the sum, added in that dtype. float16 and bfloat16: a `SplitWeight`.
    Narrower: the sum in float32, cast once.
    """
    moved = delta.to(weight.device)
    if weight.dtype in HALF_TYPES:
        return SplitWeight.of(weight, moved, scale)
    wide = (
        torch.promote_types(weight.dtype, torch.float32) if weight.itemsize > 2 else torch.float32
    )
    return torch.add(weight.to(wide), moved.to(wide), alpha=scale).to(weight.dtype)


def half_part(delta: Tensor, scale: float, dtype: torch.dtype) -> tuple[Tensor, int]:
    """(part, shift) with scale * delta = part / 2**shift, part of the given 16-bit dtype.

    The shift lifts float16 parts out of the range where its steps are coarse; being a power of
    two it costs no precision.
    """
    wide = scale * delta.float()
    largest = float(wide.abs().max()) if wide.numel() else 0.0
    shift = -math.frexp(largest)[1] - 2 if largest and dtype == torch.float16 else 0
    return torch.ldexp(wide, torch.tensor(shift, device=wide.device)).to(dtype), shift


@dataclass(frozen=True, slots=True)
class Factors:
    """up @ down in place of a matrix, or of a convolution [out, in, kh, kw] as one.

    up: [out, r], down: [r, rest], one dtype and device.
    """

    up: Tensor
    down: Tensor

    @property
    def dtype(self) -> torch.dtype:
        return self.up.dtype

    def product(self, shape: torch.Size) -> Tensor:
        """float32."""
        return (self.up.float() @ self.down.float()).reshape(shape)

    def __mul__(self, number: Any) -> Factors:
        return Factors(self.up * number, self.down)


class SplitWeight(Tensor):
    """main + extra / 2**shift, all of main's dtype.

    extra: main's shape, or `Factors`, for weights of linear layers and ungrouped convolutions.

    Layers (linear, convolutions, normalisations) and products with one number use both parts.
    Anything else that is done with it sees main + extra as one tensor of that dtype, rounded.
    """

    extra: Tensor | Factors
    shift: int

    @classmethod
    def of(cls, main: Tensor, delta: Tensor, scale: float) -> SplitWeight:
        """main + scale * delta; main may be split already."""
        if isinstance(main, SplitWeight):
            delta, scale = scale * delta.float() + main.delta(), 1.0
            main = main.main()
        return cls.from_parts(main, *half_part(delta, scale, main.dtype))

    @classmethod
    def from_parts(cls, main: Tensor, extra: Tensor | Factors, shift: int) -> SplitWeight:
        """main, extra: same dtype and device."""
        made = main.as_subclass(cls)
        made.extra, made.shift = extra, shift
        return made

    def main(self) -> Tensor:
        """The first part, as a plain tensor."""
        return self.as_subclass(Tensor)

    def delta(self) -> Tensor:
        """What is added to `main`, float32."""
        extra = self.extra
        whole = extra.product(self.main().shape) if isinstance(extra, Factors) else extra.float()
        return whole * 2.0**-self.shift

    def whole(self) -> Tensor:
        """The sum in one tensor of main's dtype, rounded."""
        return (self.main().float() + self.delta()).to(self.extra.dtype)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            if func in _FACTS:
                return func(*args, **given)
            if func in _PRODUCTS and _one_number(args[1]):
                return cls.from_parts(
                    args[0].main() * args[1], args[0].extra * args[1], args[0].shift
                )
            if func in _LAYERS:
                return _layer(func, list(args), dict(given))
            plain = [_plain(value) for value in args]
            return func(*plain, **{name: _plain(value) for name, value in given.items()})


def _one_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or (type(value) is Tensor and value.numel() == 1)


def _plain(value: Any) -> Any:
    return value.whole() if isinstance(value, SplitWeight) else value


# Questions about a tensor that do not read its values; as_subclass is how `main` is had.
_FACTS = {
    Tensor.shape.__get__,  # type: ignore[attr-defined]
    Tensor.dtype.__get__,  # type: ignore[attr-defined]
    Tensor.device.__get__,
    Tensor.layout.__get__,  # type: ignore[attr-defined]
    Tensor.ndim.__get__,  # type: ignore[attr-defined]
    Tensor.requires_grad.__get__,  # type: ignore[attr-defined]
    Tensor.as_subclass,
    Tensor.dim,
    Tensor.is_floating_point,
    Tensor.is_inference,
    Tensor.numel,
    Tensor.size,
}
# Scaled formats multiply the weight by its scale before use.
_PRODUCTS = {Tensor.mul, Tensor.__mul__, torch.mul}
# function -> (place of the weight, place of the bias or -1, axis of the output the bias lies on)
_LAYERS: dict[Callable[..., Any], tuple[int, int, int]] = {
    F.linear: (1, 2, -1),
    F.conv1d: (1, 2, 1),
    F.conv2d: (1, 2, 1),
    F.conv3d: (1, 2, 1),
    F.conv_transpose1d: (1, 2, 1),
    F.conv_transpose2d: (1, 2, 1),
    F.embedding: (1, -1, -1),
    F.group_norm: (2, 3, 1),
    F.layer_norm: (2, 3, -1),
    F.rms_norm: (2, -1, -1),
}


def _layer(func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    """f(x, W + D, b + d) = f(x, W, b) + f(x, D, 0) + d."""
    weight_at, bias_at, axis = _LAYERS[func]
    weight = _take(args, kwargs, weight_at, "weight")
    bias = _take(args, kwargs, bias_at, "bias") if bias_at >= 0 else None
    for value, place, name in ((weight, weight_at, "weight"), (bias, bias_at, "bias")):
        if isinstance(value, SplitWeight):
            _put(args, kwargs, place, name, value.main())
    result = func(*args, **kwargs)
    if isinstance(weight, SplitWeight):
        extra, second = weight.extra, weight.extra
        if isinstance(extra, Factors):
            second = extra.down.reshape(-1, *weight.shape[1:])
        _put(args, kwargs, weight_at, "weight", second)
        if bias is not None:
            _put(args, kwargs, bias_at, "bias", None)
        more = func(*args, **kwargs)
        if isinstance(extra, Factors):
            more = func(more, extra.up.reshape(*extra.up.shape, *[1] * (weight.ndim - 2)))
        result = torch.add(result, more, alpha=2.0**-weight.shift)
    if isinstance(bias, SplitWeight):
        form = [1] * result.ndim
        form[axis] = -1
        part = cast(Tensor, bias.extra)
        result = torch.add(
            result, part if bias.ndim > 1 else part.view(form), alpha=2.0**-bias.shift
        )
    return result


def _take(args: list[Any], kwargs: dict[str, Any], place: int, name: str) -> Any:
    return args[place] if place < len(args) else kwargs.get(name)


def _put(args: list[Any], kwargs: dict[str, Any], place: int, name: str, value: Any) -> None:
    if place < len(args):
        args[place] = value
    else:
        kwargs[name] = value
