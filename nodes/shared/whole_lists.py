"""Nodes that take a list as one set. ComfyUI runs others once for each member of a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from ...tverase_core.errors import ConfigError, ShapeMismatchError


class TakesLists:
    """LISTS: the inputs that may have several members; the others have one.

    RUN: the method that does the work, given a list for each of LISTS and a value for the others.
    """

    INPUT_IS_LIST = True
    FUNCTION = "run_once"
    RUN: ClassVar[str]
    LISTS: ClassVar[tuple[str, ...]]

    def run_once(self, **inputs: list[Any]) -> Any:
        """What the host calls, with a list for every input. Raises ConfigError."""
        given = {
            name: values if name in self.LISTS else _only(name, values)
            for name, values in inputs.items()
        }
        return getattr(self, self.RUN)(**given)


def _only(name: str, values: Sequence[Any]) -> Any:
    if len(values) != 1:
        raise ConfigError(
            f"`{name}` is a list of {len(values)}, this node takes one. It makes one set of all "
            "that lists give it; for a set of each use a node of its own for each."
        )
    return values[0]


def one_batch(name: str, batches: Sequence[torch.Tensor]) -> torch.Tensor:
    """All rows of the batches [n, ...] as one. Raises ShapeMismatchError when sizes differ."""
    sizes = [tuple(batch.shape[1:]) for batch in batches]
    other = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
    if other is not None:
        raise ShapeMismatchError(
            f"`{name}` number {other + 1} of {len(sizes)} has the size "
            f"{'x'.join(map(str, sizes[other]))}, the first has {'x'.join(map(str, sizes[0]))}. "
            "Give all one size: Load Images from Folder does, or crop them before this node.",
            name,
            sizes[0],
            sizes[other],
        )
    return torch.cat(list(batches)) if batches else torch.zeros(0, 0, 0, 0)
