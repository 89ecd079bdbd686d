"""Layers that compute with values of ours, without the copies that the host makes on the way.

Where a function changes a weight, the host copies the weight, casts the copy and hands that over,
at every pass. On a CPU, where the stored weights are at hand, all that is for nothing: a seventh of
a fine-tune's time on the demo model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
    such attributes only while it computes. `forward` is as before by any way out.
    """
    before = {layer: layer.__dict__.get("forward") for layer in layers}
    try:
        for layer, given in layers.items():
            layer.forward = partial(_forward, layer, layer.forward, given, acts)
        yield
    finally:
        for layer, own in before.items():
            layer.__dict__.pop("forward", None)
            if own is not None:
                layer.forward = own


def _forward(
    layer: torch.nn.Module,
    own: Callable[..., Any],
    given: Given,
    acts: Callable[[], bool],
    *words: Any,
    **options: Any,
) -> Any:
    if not acts():
        return own(*words, **options)
    x = next(iter((*words, *options.values())))
    attributes = layer.__dict__
    try:
        attributes.update({name: values(x.dtype) for name, values in given.items()})
        return own(*words, **options)
    finally:
        for name in given:
            attributes.pop(name, None)
