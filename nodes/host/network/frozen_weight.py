"""Linear layers whose weight stays, in passes for gradients: autograd keeps no copy of a weight.

The host hands every layer a copy of its weight, and autograd keeps what it needs for the gradient
of the layer's input: of all layers together the whole model once more. The stored weight serves as
well. A delta of low rank is computed beside it, as in LoRA (arXiv 2106.09685): neither the sum nor
a gradient of the sum's size is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear


class Branch(NamedTuple):
    """scale * up @ down; up: [rows, r], down: [r, columns], float32."""

    up: Tensor
    down: Tensor
    scale: float

    def of(self, x: Tensor) -> Tensor:
        """What it adds to the layer's output."""
        up, down = (factor.to(x.device, x.dtype) for factor in (self.up, self.down))
        return linear(linear(x, down), up) * self.scale


class FrozenWeight(torch.Tensor):
    """Given to a linear layer in the place of a weight [rows, columns].

    Whoever does anything else with it gets the dense sum, `dense()`, and gradients as usual.
    """

    stored: Tensor
    branches: Sequence[Branch]
    dense: Callable[[], Tensor]

    @classmethod
    def of(
        cls,
        weight: Tensor,
        stored: Tensor,
        branches: Sequence[Branch],
        dense: Callable[[], Tensor],
    ) -> FrozenWeight:
        """weight: as the layer computes with it; stored: the same values in memory that stays."""
        made: FrozenWeight = weight.as_subclass(cls)
        made.stored, made.branches, made.dense = stored, branches, dense
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
        if func is linear and len(args) + len(named) <= 3:
            given = dict(zip(("input", "weight", "bias"), args, strict=False)) | named
            if isinstance(given["weight"], cls) and not isinstance(given["input"], cls):
                return _through(given["input"], given["weight"], given.get("bias"))
        with torch._C.DisableTorchFunctionSubclass():
            if getattr(func, "__name__", "") == "__get__":
                found = func(*args, **named)
                if not isinstance(found, Tensor):  # shape, dtype, device
                    return found
            return func(*map(_dense, args), **{name: _dense(v) for name, v in named.items()})


def _dense(value: Any) -> Any:
    return value.dense() if isinstance(value, FrozenWeight) else value


def _through(x: Tensor, weight: FrozenWeight, bias: Tensor | None) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        plain = weight.as_subclass(torch.Tensor)
        made: Tensor = _Linear.apply(x, plain, weight.stored, bias)
        for branch in weight.branches:
            made = made + branch.of(x)
        return made


class _Linear(torch.autograd.Function):
    """x @ W.T + bias, with gradients for x and the bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stored: Tensor, bias: Tensor | None) -> Tensor:
        # Not by save_for_backward, which refuses the loader's inference tensors.
        ctx.stored = stored
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        towards = grad @ ctx.stored.to(grad.device, grad.dtype) if ctx.needs_input_grad[0] else None
        of_bias = grad.flatten(0, -2).sum(0) if ctx.needs_input_grad[3] else None
        return towards, None, None, of_bias
