"""Layers whose weight autograd does not keep: it is got again when gradients are taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from .convolution_gradients import Places, convolution_gradients
from .room import Added
from .weight_gradient import Product, shared

Again: TypeAlias = Callable[[], Tensor]


class Held(NamedTuple):
    """again: the weight as computed with, in memory that stays, or, with something added, to be
    used at once."""

    again: Again
    added: Sequence[Added] = ()


class _How(NamedTuple):
    """func(x, weight, bias, *places)"""

    func: Callable[..., Tensor]
    places: Places
    held: Held


def multiplied(x: Tensor, weight: Tensor, held: Held, bias: Tensor | None) -> Tensor:
    """x @ weight.T + bias; with gradients for x, the bias, and the deltas that are added.

    weight: not read with something added, when `held` gives the sum.
    """
    how = _How(functional.linear, (), held)
    made: Tensor = _Linear.apply(x, weight, bias, how, *(one.delta for one in held.added))
    return made


def convolved(
    func: Callable[..., Tensor],
    x: Tensor,
    weight: Tensor,
    held: Held,
    bias: Tensor | None,
    places: Places,
) -> Tensor:
    """The same of a convolution without groups, `func`."""
    how = _How(func, places, held)
    made: Tensor = _Convolution.apply(x, weight, bias, how, *(one.delta for one in held.added))
    return made


class _Layer(torch.autograd.Function):
    """Inputs: x, weight, bias, how, and the deltas."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: _How, *deltas: Tensor
    ) -> Tensor:
        if deltas:
            weight = how.held.again()
        # `held` not by save_for_backward, which refuses the loader's inference tensors.
        ctx.how, ctx.shapes = how, (x.shape, weight.shape)
        ctx.save_for_backward(x if any(ctx.needs_input_grad[4:]) else None)
        return how.func(x, weight, bias, *how.places)


class _Linear(_Layer):
    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (back,) = grads
        x, weight = _kept(ctx, back)
        towards = None if weight is None else back @ weight
        rows = _rows(back)
        of_weight = None if x is None else Product(rows.T, _rows(x), ctx.shapes[1])
        of_bias = rows.sum(0) if ctx.needs_input_grad[2] else None
        return towards, None, of_bias, None, *_of_deltas(ctx, of_weight)


class _Convolution(_Layer):
    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (back,) = grads
        x, weight = _kept(ctx, back)
        towards, of_weight = convolution_gradients(back, x, weight, ctx.shapes, ctx.how.places)
        of_bias = back.sum((0, *range(2, back.ndim))) if ctx.needs_input_grad[2] else None
        return towards, None, of_bias, None, *_of_deltas(ctx, of_weight)


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _kept(ctx: Any, back: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The input if deltas learn, and the weight if the input's gradient is asked for.

    In this order: a recomputed block makes its sums where this weight's will be.
    """
    (x,) = ctx.saved_tensors
    asked = ctx.needs_input_grad[0]
    return x, ctx.how.held.again().to(back.device, back.dtype) if asked else None


def _of_deltas(ctx: Any, of_weight: Product | Tensor | None) -> list[Tensor | None]:
    learning = zip(ctx.how.held.added, ctx.needs_input_grad[4:], strict=True)
    return [
        shared(of_weight, one) if asked and of_weight is not None else None
        for one, asked in learning
    ]
