"""Layers whose weight autograd does not keep: it is got again when gradients are taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from .convolution_gradients import Places, convolution_gradients

Again: TypeAlias = Callable[[], Tensor]
Added: TypeAlias = tuple[Tensor, float]  # a delta of the weight's shape, and its factor


class _How(NamedTuple):
    """func(x, weight, bias, *places); again: the weight as computed with, to be used at once;
    scales: of the deltas in it."""

    func: Callable[..., Tensor]
    places: Places
    again: Again
    scales: Sequence[float]


def multiplied(
    x: Tensor, weight: Tensor, again: Again, bias: Tensor | None, added: Sequence[Added]
) -> Tensor:
    """x @ weight.T + bias; with gradients for x, the bias, and the deltas that are added.

    again: the weight; with something `added` it is got for the layer too, and `weight` not read.
    """
    how = _How(functional.linear, (), again, [scale for _, scale in added])
    made: Tensor = _Linear.apply(x, weight, bias, how, *(delta for delta, _ in added))
    return made


def convolved(
    func: Callable[..., Tensor],
    x: Tensor,
    weight: Tensor,
    again: Again,
    bias: Tensor | None,
    added: Sequence[Added],
    places: Places,
) -> Tensor:
    """The same of a convolution without groups, `func`."""
    how = _How(func, places, again, [scale for _, scale in added])
    made: Tensor = _Convolution.apply(x, weight, bias, how, *(delta for delta, _ in added))
    return made


class _Layer(torch.autograd.Function):
    """Inputs: x, weight, bias, how, and deltas; with these, the weight is what `again` gives."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: _How, *deltas: Tensor
    ) -> Tensor:
        if deltas:
            weight = how.again()
        # `again` not by save_for_backward, which refuses the loader's inference tensors.
        ctx.how, ctx.shapes = how, (x.shape, weight.shape)
        ctx.save_for_backward(x if any(ctx.needs_input_grad[4:]) else None)
        return how.func(x, weight, bias, *how.places)


class _Linear(_Layer):
    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (back,) = grads
        x, weight = _kept(ctx, back)
        towards = None if weight is None else back @ weight
        of_weight = None if x is None else back.flatten(0, -2).T @ x.flatten(0, -2)
        of_bias = back.flatten(0, -2).sum(0) if ctx.needs_input_grad[2] else None
        return towards, None, of_bias, None, *_shared(ctx, of_weight)


class _Convolution(_Layer):
    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (back,) = grads
        x, weight = _kept(ctx, back)
        towards, of_weight = convolution_gradients(back, x, weight, ctx.shapes, ctx.how.places)
        of_bias = back.sum((0, *range(2, back.ndim))) if ctx.needs_input_grad[2] else None
        return towards, None, of_bias, None, *_shared(ctx, of_weight)


def _kept(ctx: Any, back: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The input if deltas learn, and the weight if the input's gradient is asked for."""
    weight = ctx.how.again().to(back.device, back.dtype) if ctx.needs_input_grad[0] else None
    return ctx.saved_tensors[0], weight


def _shared(ctx: Any, of_weight: Tensor | None) -> list[Tensor | None]:
    """The gradients of the deltas, float32."""
    made: list[Tensor | None] = []
    for scale, asked in zip(ctx.how.scales, ctx.needs_input_grad[4:], strict=True):
        whole = of_weight.float() if asked and of_weight is not None else None
        made.append(whole if whole is None or scale == 1.0 else whole * scale)
    return made
