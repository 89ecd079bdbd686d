"""Parameters that no layer of the host owns, such as scales of norms and padding tokens: what the
network reads in their place while it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import torch

Change = Callable[[torch.Tensor], torch.Tensor]
# The host's methods that read weights to patch them, and put away what they read.
_LOADING = ("patch_model", "unpatch_model", "load", "partially_load", "partially_unload", "detach")


@contextmanager
def changed_when_read(
    network: torch.nn.Module,
    slots: Iterable[tuple[str, Change]],
    acts: Callable[[], bool],
) -> Iterator[None]:
    """While open and `acts()`, a module that reads its parameter or buffer gets `change(it)`.

    slots: (name of the parameter in `network`, change). acts: not while the host loads or unloads:
    it reads in the same way, and puts back later what it has read. Neither the parameters nor what
    the host does with them (moving, patching, saving) are touched: a module's own attribute comes
    before its parameters, so each gets a class of its own that has one, and its old class back by
    any way out.
    """
    by_module: dict[torch.nn.Module, dict[str, Change]] = {}
    for path, change in slots:
        place, _, name = path.rpartition(".")
        by_module.setdefault(network.get_submodule(place), {})[name] = change
    own = {module: type(module) for module in by_module}
    try:
        for module, changes in by_module.items():
            readers = {
                name: property(partial(_read, name, change, acts))
                for name, change in changes.items()
            }
            module.__class__ = type(own[module].__name__, (own[module],), readers)
        yield
    finally:
        for module, kind in own.items():
            module.__class__ = kind


def _read(
    name: str, change: Change, acts: Callable[[], bool], module: torch.nn.Module
) -> torch.Tensor:
    stored = stored_in(module, name)
    return change(stored) if acts() else stored


def stored_in(module: torch.nn.Module, name: str) -> torch.Tensor:
    """The parameter or buffer as the module holds it, whatever reads of it give."""
    stored = module._parameters.get(name)
    stored = module._buffers[name] if stored is None else stored
    assert stored is not None
    return stored


@contextmanager
def noticed_loading(patcher: Any) -> Iterator[Callable[[], bool]]:
    """While open, gives a function that says whether the host is loading or unloading this MODEL.

    By the object's own attributes, gone by any way out: they refer to the patcher, which could not
    be let go with them.
    """
    depth = 0

    def noticed(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def counted(*given: Any, **named: Any) -> Any:
            nonlocal depth
            depth += 1
            try:
                return method(*given, **named)
            finally:
                depth -= 1

        return counted

    names = [name for name in _LOADING if hasattr(patcher, name)]
    try:
        for name in names:
            setattr(patcher, name, noticed(getattr(patcher, name)))
        yield lambda: depth > 0
    finally:
        for name in names:
            vars(patcher).pop(name, None)
