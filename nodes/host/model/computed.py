"""A weight with its patches in it, or an error where the host would leave one out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.lora
import torch

from ....tverase_core.errors import BaseMismatchError


def computed(patches: Sequence[Any], weight: torch.Tensor, key: str) -> torch.Tensor:
    """The host's `calculate_weight`, which may write into `weight` and return it.

    The host logs a patch that it cannot compute, of another shape for example, and goes on
    without it. Raises BaseMismatchError then, with the host's words.
    """
    with _complaints_about(key) as complaints:
        made = comfy.lora.calculate_weight(list(patches), weight, key)
    if complaints:
        raise BaseMismatchError(
            f"ComfyUI cannot compute a patch on {key} of shape {tuple(weight.shape)}, and draws "
            f"without it: {'; '.join(complaints)}. The LoRA or merge is probably of another model "
            "family. Take it out, or load one that was made for this model."
        )
    return made


@contextmanager
def _complaints_about(key: str) -> Iterator[list[str]]:
    """Warnings and errors that this thread logs about the key while the block runs."""
    listener = _Listener(key)
    root = logging.getLogger()
    root.addHandler(listener)
    try:
        yield listener.heard
    finally:
        root.removeHandler(listener)


class _Listener(logging.Handler):
    def __init__(self, key: str):
        super().__init__(logging.WARNING)
        self.heard: list[str] = []
        self._key, self._thread = key, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.thread == self._thread and self._key in message:
            self.heard.append(message)
