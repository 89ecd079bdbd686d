"""Layers in passes for gradients: autograd keeps no copy of a weight.

It would keep what it needs for the gradient of a layer's input, the weight as computed with: of all
layers together the whole model once more. The stored weight, unpacked anew where it is packed,
serves as well. A delta of low rank is computed beside it, as in LoRA (arXiv 2106.09685), of a
convolution as one to r channels and one of size 1 from there: neither the sum nor a gradient of the
sum's size is made. With a dense delta the sum is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .layer_gradients import Held, Places, convolved, multiplied

PRODUCTS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
# A sum of fewer numbers than this is kept for the backward pass: to make one again takes time, and
# the large ones are nearly all of a model that is large.
LARGE = 2**20
# What a convolution's function is called with, in this order, and the gradient of its input.
_USUAL = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_WORDS = ("input", "weight", *_USUAL)
_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)


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
    return isinstance(layer, PRODUCTS) or hasattr(layer, "in_features")


def is_large(weight: Tensor) -> bool:
    """Whether its sum with a delta is made again."""
    return weight.numel() >= LARGE


class FrozenWeight(torch.Tensor):
    """Given to a layer that `may_stay` in the place of its weight.

    Whoever does anything else with it gets the dense sum, `dense()`, and gradients as usual; so do
    convolutions in groups, of one picture without a batch, or with an edge that is told in a word.
    """

    held: Held
    branches: Sequence[Branch]
    dense: Callable[[], Tensor]

    @classmethod
    def of(
        cls,
        weight: Tensor,
        held: Held,
        dense: Callable[[], Tensor],
        branches: Sequence[Branch] = (),
    ) -> FrozenWeight:
        """weight: as the layer computes with it, without gradient; of its size and format alone
        where something is added."""
        made: FrozenWeight = weight.as_subclass(cls)
        made.held, made.branches, made.dense = held, branches, dense
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
    made = multiplied(x, weight.as_subclass(Tensor), weight.held, bias)
    for branch in weight.branches:
        up, down = branch.at(x)
        made = made + functional.linear(functional.linear(x, down), up) * branch.scale
    return made


def _convolved(
    func: Any, x: Tensor, weight: FrozenWeight, bias: Tensor | None, places: Places
) -> Tensor:
    plain = weight.as_subclass(Tensor)
    made = convolved(func, x, plain, weight.held, bias, places)
    for branch in weight.branches:
        up, down = branch.at(x)
        inner = func(x, down.view(-1, *plain.shape[1:]), None, *places)
        point = up.view(*up.shape, *[1] * (plain.ndim - 2))
        made = made + func(inner, point) * branch.scale
    return made
