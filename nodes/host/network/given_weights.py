"""Layers that compute with values of ours, without the copies that the host makes on the way.

Where a function changes a weight, the host copies the weight, casts the copy and hands that over,
at every pass. On a CPU, where the stored weights are at hand, all that is for nothing: a seventh of
a fine-tune's time on the demo model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeAlias

import torch

from .frozen_weight import PRODUCTS

KINDS = (*PRODUCTS, torch.nn.GroupNorm, torch.nn.LayerNorm)
Values: TypeAlias = Callable[[torch.dtype], torch.Tensor]  # a parameter's, in that format
Given: TypeAlias = Mapping[str, Values]  # by the parameter's name


@contextmanager
def given_weights(
    layers: Mapping[torch.nn.Module, Given], acts: Callable[[], bool]
) -> Iterator[None]:
    """While open and `acts()`, each layer reads what is given in place of its parameters, in the
    format of its input.

    layers: of `KINDS`, which cast their weights to that. Neither the parameters nor what the host
    does with them are touched: a module's own attribute comes before its parameters, and each has
    such attributes only while it computes. By hooks, since `forward` is what other packs exchange,
    and the host's bypass LoRA at every load.
    """
    with ExitStack() as hooks:
        for layer, given in layers.items():
            put, taken = partial(_put, given, acts), partial(_taken, given)
            for hook in (
                layer.register_forward_pre_hook(put, with_kwargs=True),
                layer.register_forward_hook(taken, always_call=True),
            ):
                hooks.callback(hook.remove)
        yield


def _put(
    given: Given,
    acts: Callable[[], bool],
    layer: torch.nn.Module,
    words: tuple[Any, ...],
    options: Mapping[str, Any],
) -> None:
    if acts():
        x = next(iter((*words, *options.values())))
        layer.__dict__.update({name: values(x.dtype) for name, values in given.items()})


def _taken(given: Given, layer: torch.nn.Module, *_: Any) -> None:
    for name in given:
        layer.__dict__.pop(name, None)
