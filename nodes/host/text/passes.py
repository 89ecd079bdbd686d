"""Passes through the host's text encoders: fit for a backward pass, several prompts in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from ..network.backward import differentiable
from ..training.recompute import recomputed, stacks_of
from .splice import Rows
from .towers import Tower


@contextmanager
def autograd_as_it_is() -> Iterator[None]:
    """Out of inference mode, which alone would also switch gradients on."""
    wanted = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(wanted):
        yield


@contextmanager
def for_gradients(text_model: torch.nn.Module, towers: Sequence[Tower]) -> Iterator[None]:
    """The host's passes made fit for a backward pass, where gradients are wanted.

    Language models keep what enters their blocks and nothing more: the host computes them in
    float32, and autograd would keep a float32 copy of every weight.
    """
    with ExitStack() as open_while:
        if torch.is_grad_enabled():
            open_while.enter_context(differentiable(text_model))
            for tower in towers:
                if not tower.is_clip:
                    part = tower.of(text_model)
                    open_while.enter_context(recomputed(part, stacks_of(part)))
        yield


@contextmanager
def in_one_pass(
    text_model: torch.nn.Module, towers: Sequence[Tower], items: Sequence[Mapping[str, Rows]]
) -> Iterator[None]:
    """Each tower encodes the items together, and then hands out their states one by one to the
    host, which joins those of several towers and cuts templates off. Prompts with weights are
    encoded one by one: the host puts an empty one beside each. So are those of unequal length."""
    covered = []
    try:
        for tower in towers:
            part, first = tower.of(text_model), items[0][tower.place]
            rows = [[token for token, _ in item[tower.place][0]] for item in items]
            even = len(first) == 1 and len({len(row) for row in rows}) == 1
            if even and all(weight == 1.0 for _, weight in first[0]):
                part.encode = _Queue(part.encode(rows), len(rows)).next
                covered.append(part)
        yield
    finally:
        for part in covered:
            del part.encode


class _Queue:
    """Gives what one pass made of n rows, row by row, as `encode` would of each."""

    def __init__(self, made: tuple[Any, ...], count: int):
        self._made, self._left = made, iter(range(count))

    def next(self, rows: Any) -> tuple[Any, ...]:
        here = slice((k := next(self._left)), k + 1)
        states, pooled, *rest = self._made
        extra = [{name: value[here] for name, value in part.items()} for part in rest]
        return (states[here], None if pooled is None else pooled[here], *extra)
