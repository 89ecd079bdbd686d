"""What the host only logs, where it goes on without what was asked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def complaints_about(words: str) -> Iterator[list[str]]:
    """Warnings and errors with these words that this thread logs while the block runs."""
    listener = _Listener(words)
    root = logging.getLogger()
    root.addHandler(listener)
    try:
        yield listener.heard
    finally:
        root.removeHandler(listener)


class _Listener(logging.Handler):
    def __init__(self, words: str):
        super().__init__(logging.WARNING)
        self.heard: list[str] = []
        self._words, self._thread = words, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.thread == self._thread and self._words in message:
            self.heard.append(message)
