"""Layers whose weight autograd does not keep: it is got again when gradients are taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Again: TypeAlias = Callable[[], Tensor]
Added: TypeAlias = tuple[Tensor, float]  # a delta of the weight's shape, and its factor
Places: TypeAlias = tuple[Any, ...]  # stride, padding, dilation, groups


def multiplied(
    x: Tensor, weight: Tensor, again: Again, bias: Tensor | None, added: Sequence[Added]
) -> Tensor:
    """x @ weight.T + bias; with gradients for x, the bias, and the deltas in the weight."""
    deltas, scales = [delta for delta, _ in added], [scale for _, scale in added]
    made: Tensor = _Linear.apply(x, weight, again, bias, scales, *deltas)
    return made


def convolved(
    func: Any,
    x: Tensor,
    weight: Tensor,
    again: Again,
    bias: Tensor | None,
    added: Sequence[Added],
    places: Places,
) -> Tensor:
    """The same of a convolution without groups, `func`."""
    deltas, scales = [delta for delta, _ in added], [scale for _, scale in added]
    made: Tensor = _Convolution.apply(x, weight, again, bias, scales, func, places, *deltas)
    return made


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        again: Again,
        bias: Tensor | None,
        scales: Sequence[float],
        *deltas: Tensor,
    ) -> Tensor:
        _keep(ctx, x, again, scales, any(ctx.needs_input_grad[5:]))
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (back,) = grads
        x, weight = _kept(ctx, back)
        towards = None if weight is None else back @ weight
        of_weight = None if x is None else back.flatten(0, -2).T @ x.flatten(0, -2)
        of_bias = back.flatten(0, -2).sum(0) if ctx.needs_input_grad[3] else None
        return towards, None, None, of_bias, None, *_shared(ctx, of_weight, 5)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        again: Again,
        bias: Tensor | None,
        scales: Sequence[float],
        func: Any,
        places: Places,
        *deltas: Tensor,
    ) -> Tensor:
        _keep(ctx, x, again, scales, any(ctx.needs_input_grad[7:]))
        ctx.places, ctx.shapes = places, (x.shape, weight.shape)
        return func(x, weight, bias, *places)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (back,) = grads
        kept = _kept(ctx, back)
        # Of what is not asked for the size alone is needed.
        x, weight = (
            back.new_empty(1).expand(shape) if value is None else value
            for value, shape in zip(kept, ctx.shapes, strict=True)
        )
        asked = [kept[1] is not None, kept[0] is not None, False]
        sides = back.ndim - 2
        *steps, groups = ctx.places
        stride, padding, dilation = ([s] * sides if isinstance(s, int) else s for s in steps)
        towards, learned, _ = torch.ops.aten.convolution_backward(
            back, x, weight, None, stride, padding, dilation, False, [0] * sides, groups, asked
        )
        of_bias = back.transpose(0, 1).flatten(1).sum(1) if ctx.needs_input_grad[3] else None
        return towards, None, None, of_bias, None, None, None, *_shared(ctx, learned, 7)


def _keep(ctx: Any, x: Tensor, again: Again, scales: Sequence[float], learns: bool) -> None:
    """Note what the backward pass needs; the input, where deltas learn. `again` not by
    save_for_backward, which refuses the loader's inference tensors."""
    ctx.again, ctx.scales = again, scales
    ctx.save_for_backward(x if learns else None)


def _kept(ctx: Any, back: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The input if deltas learn, and the weight if the input's gradient is asked for."""
    weight = ctx.again().to(back.device, back.dtype) if ctx.needs_input_grad[0] else None
    return ctx.saved_tensors[0], weight


def _shared(ctx: Any, of_weight: Tensor | None, first: int) -> list[Tensor | None]:
    """The gradients of the deltas, float32, which are inputs from `first` on."""
    made: list[Tensor | None] = []
    for scale, asked in zip(ctx.scales, ctx.needs_input_grad[first:], strict=True):
        whole = of_weight.float() if asked and of_weight is not None else None
        made.append(whole if whole is None or scale == 1.0 else whole * scale)
    return made
