"""Deltas at work inside a model: a diffusion model's or a text encoder's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch

from ....tverase_core.errors import KeyMismatchError, listed
from .room import Room


class Attachment:
    """Deltas by key and the factor they are added with. room: for sums and gradients on a CPU.
    hooked: as in ports.py."""

    def __init__(self, deltas: Mapping[str, torch.Tensor]):
        self.deltas, self.scale = deltas, 1.0
        self.room, self.hooked = Room(), False


@contextmanager
def attached_to(
    stack: list[Attachment], deltas: Mapping[str, torch.Tensor], known: Collection[str], advice: str
) -> Iterator[Attachment]:
    """The deltas lie on the stack while this is open.

    known: the keys that there are; advice: the error's sentence, with {} for the other keys.
    Raises KeyMismatchError for a delta without a weight.
    """
    unknown = [key for key in deltas if key not in known]
    if unknown:
        raise KeyMismatchError(advice.format(listed(unknown)), unexpected=unknown)
    attachment = Attachment(deltas)
    stack.append(attachment)
    try:
        yield attachment
    finally:
        stack.remove(attachment)
