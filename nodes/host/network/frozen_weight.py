"""Layers whose weight stays, in passes for gradients: autograd keeps no copy of a weight.

The host hands every layer a copy of its weight, and autograd keeps what it needs for the gradient
of the layer's input: of all layers together the whole model once more. The stored weight, unpacked
anew where it is packed, serves as well. A delta of low rank is computed beside it, as in LoRA
(arXiv 2106.09685), of a convolution as one to r channels and one of size 1 from there: neither the
sum nor a gradient of the sum's size is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional, grad

_KINDS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
# What a convolution's function is called with, in this order, and the gradient of its input.
_USUAL = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_WORDS = ("input", "weight", *_USUAL)
_CONVOLUTIONS: Mapping[Any, Any] = {
    functional.conv1d: grad.conv1d_input,
    functional.conv2d: grad.conv2d_input,
    functional.conv3d: grad.conv3d_input,
}


class Branch(NamedTuple):
    """scale * up @ down; up: [rows, r], down: [r, columns], float32."""

    up: Tensor
    down: Tensor
    scale: float

    def at(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(up, down) in x's format, where x is."""
        return self.up.to(x.device, x.dtype), self.down.to(x.device, x.dtype)


def may_stay(layer: torch.nn.Module) -> bool:
    """Whether it is of those that `FrozenWeight` is for: a convolution, or linear, which the host's
    layers of quantised weights are without being one of PyTorch's."""
    return isinstance(layer, _KINDS) or hasattr(layer, "in_features")


class FrozenWeight(torch.Tensor):
    """Given to a layer that `may_stay` in the place of its weight.

    Whoever does anything else with it gets the dense sum, `dense()`, and gradients as usual; so do
    convolutions in groups, of one picture without a batch, or with an edge that is told in a word.
    """

    again: Callable[[], Tensor]
    branches: Sequence[Branch]
    dense: Callable[[], Tensor]

    @classmethod
    def of(
        cls,
        weight: Tensor,
        again: Callable[[], Tensor],
        branches: Sequence[Branch],
        dense: Callable[[], Tensor],
    ) -> FrozenWeight:
        """weight: as the layer computes with it; again: the same values, from memory that stays."""
        made: FrozenWeight = weight.as_subclass(cls)
        made.again, made.branches, made.dense = again, branches, dense
        return made

    @classmethod
    def __torch_function__(
        cls,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        made = _computed(func, args, named)
        if made is not None:
            return made
        with torch._C.DisableTorchFunctionSubclass():
            if getattr(func, "__name__", "") == "__get__":
                found = func(*args, **named)
                if not isinstance(found, Tensor):  # shape, dtype, device
                    return found
            return func(*map(_dense, args), **{name: _dense(v) for name, v in named.items()})


def _dense(value: Any) -> Any:
    return value.dense() if isinstance(value, FrozenWeight) else value


def _computed(func: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor | None:
    """What a layer computes; None where it is none of those that are known here."""
    convolution = func in _CONVOLUTIONS
    if not (convolution or func is functional.linear) or len(args) > len(_WORDS):
        return None
    words = {**_USUAL, **dict(zip(_WORDS, args, strict=False)), **named}
    x, weight = words.pop("input"), words.pop("weight")
    if not isinstance(weight, FrozenWeight) or isinstance(x, FrozenWeight):
        return None
    even = words["groups"] == 1 and not isinstance(words["padding"], str)
    if convolution and (x.ndim != weight.ndim or not even):
        return None
    with torch._C.DisableTorchFunctionSubclass():
        if convolution:
            return _convolved(func, x, weight, words.pop("bias"), tuple(words.values()))
        return _multiplied(x, weight, words["bias"])


def _multiplied(x: Tensor, weight: FrozenWeight, bias: Tensor | None) -> Tensor:
    made: Tensor = _Linear.apply(x, weight.as_subclass(torch.Tensor), weight.again, bias)
    for branch in weight.branches:
        up, down = branch.at(x)
        made = made + functional.linear(functional.linear(x, down), up) * branch.scale
    return made


def _convolved(
    func: Any, x: Tensor, weight: FrozenWeight, bias: Tensor | None, places: tuple[Any, ...]
) -> Tensor:
    """places: stride, padding, dilation, groups."""
    plain = weight.as_subclass(torch.Tensor)
    made: Tensor = _Convolution.apply(x, plain, weight.again, bias, func, places)
    for branch in weight.branches:
        up, down = branch.at(x)
        inner = func(x, down.view(-1, *plain.shape[1:]), None, *places)
        point = up.view(*up.shape, *[1] * (plain.ndim - 2))
        made = made + func(inner, point) * branch.scale
    return made


class _Linear(torch.autograd.Function):
    """x @ W.T + bias, with gradients for x and the bias."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, again: Callable[[], Tensor], bias: Tensor | None
    ) -> Tensor:
        # Not by save_for_backward, which refuses the loader's inference tensors.
        ctx.again = again
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (back,) = grads
        towards = (
            back @ ctx.again().to(back.device, back.dtype) if ctx.needs_input_grad[0] else None
        )
        of_bias = back.flatten(0, -2).sum(0) if ctx.needs_input_grad[3] else None
        return towards, None, None, of_bias


class _Convolution(torch.autograd.Function):
    """A convolution without groups, with gradients for x and the bias."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        again: Callable[[], Tensor],
        bias: Tensor | None,
        func: Callable[..., Tensor],
        places: tuple[Any, ...],
    ) -> Tensor:
        ctx.again, ctx.func, ctx.places, ctx.shape = again, func, places, x.shape
        return func(x, weight, bias, *places)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (back,) = grads
        towards = of_bias = None
        if ctx.needs_input_grad[0]:
            weight = ctx.again().to(back.device, back.dtype)
            towards = _CONVOLUTIONS[ctx.func](ctx.shape, weight, back, *ctx.places)
        if ctx.needs_input_grad[3]:
            of_bias = back.transpose(0, 1).flatten(1).sum(1)
        return towards, None, None, of_bias, None, None
