"""A lock between processes that ends with its process, however that ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .say import Heartbeat


class Taken(Exception):
    """Another process holds the lock."""


@contextmanager
def only_one(path: Path, waiting: str | None = None) -> Iterator[None]:
    """Hold the lock file for the length of the block.

    waiting: what to say while another process holds it; without, Taken is raised at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if not _locked(file):
            if waiting is None:
                raise Taken(path.name)
            with Heartbeat(waiting, silent_s=2.0):
                while not _locked(file):
                    time.sleep(0.2)
        yield  # closing the file gives the lock back


def _locked(file: IO[bytes]) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
