"""Parameters that no layer of the host owns, such as scales of norms and padding tokens: what the
network reads in their place while it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

Change = Callable[[torch.Tensor], torch.Tensor]


@contextmanager
def changed_when_read(
    network: torch.nn.Module, slots: Iterable[tuple[str, Change]]
) -> Iterator[None]:
    """While open, a module that reads its parameter gets `change(parameter)`.

    slots: (name of the parameter in `network`, change). Neither the parameters nor what the host
    does with them (moving, patching, saving) are touched: a module's own attribute comes before
    its parameters, so each gets a class of its own that has one, and its old class back by any
    way out.
    """
    by_module: dict[torch.nn.Module, dict[str, Change]] = {}
    for path, change in slots:
        place, _, name = path.rpartition(".")
        by_module.setdefault(network.get_submodule(place), {})[name] = change
    own = {module: type(module) for module in by_module}
    try:
        for module, changes in by_module.items():
            readers = {
                name: property(partial(_read, name, change)) for name, change in changes.items()
            }
            module.__class__ = type(own[module].__name__, (own[module],), readers)
        yield
    finally:
        for module, kind in own.items():
            module.__class__ = kind


def _read(name: str, change: Change, module: torch.nn.Module) -> torch.Tensor:
    stored = module._parameters[name]
    assert stored is not None
    return change(stored)
