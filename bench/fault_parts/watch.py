"""What reading one hostile input does: how it ends, how long it takes, what it touches."""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from bench.peak_memory import forget_peak, peak_bytes
from tverase_core.errors import LONGEST

SECONDS = 2.0  # of the processor's time
HANGS_S = 4.0  # of it, after which a reading is broken off
MEMORY = (16 << 20, 128)  # bytes that any reading may take, and so many for each byte of its file
# Of Python's audit events, those that reach outside the process, and where their path is.
_WITH_PATH = {"open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}
_NEVER = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "pickle.find_class")


class _TookTooLongError(BaseException):
    """Not an Exception, so that no reader can take it for its own."""


class Watch:
    """Everything of this process that Python reports while `active`.

    allowed: folders that readers may read and write.
    """

    def __init__(self, allowed: list[Path]):
        self._allowed = [str(path.resolve()) for path in allowed]
        # Python itself and its packages are loaded on demand.
        self._readable = [sys.prefix, sys.base_prefix, "/usr/lib", "/proc/self", "/sys"]
        self._readable += [str(Path(p).resolve()) for p in sys.path if p]
        self.active, self.strayed = False, list[str]()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, words: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event.startswith(_NEVER):
            self.strayed.append(f"{event} {words!r:.200}")
        elif event in _WITH_PATH and isinstance(words[0], str | bytes):
            path = words[0].decode("utf-8", "replace") if isinstance(words[0], bytes) else words[0]
            places = [*self._allowed]
            writes = event == "open" and isinstance(words[1], str) and set(words[1]) & set("wxa+")
            if event in ("open", "os.listdir", "os.scandir") and not writes:
                places += self._readable
            if not str(Path(path).absolute()).startswith(tuple(places)) or ".." in Path(path).parts:
                self.strayed.append(f"{event} {path}")

    @contextmanager
    def on(self) -> Iterator[None]:
        self.active = True
        try:
            yield
        finally:
            self.active = False


def fault_of(
    watch: Watch,
    read: Callable[[], object],
    size: int,
    ours: Callable[[Exception], bool],
    private: str,
) -> str | None:
    """What went wrong when an input of `size` bytes was read, or None.

    ours: whether an error is one that the project raises on purpose. private: text that no
    sentence may hold.
    """
    forget_peak()
    before, began = peak_bytes() or 0, time.process_time()
    fault = None
    signal.signal(signal.SIGPROF, _break_off)
    signal.setitimer(signal.ITIMER_PROF, HANGS_S)
    try:
        with watch.on():
            read()
    except _TookTooLongError:
        return f"no end within {HANGS_S:.0f} s"
    except Exception as error:
        fault = _unwanted(error, ours, private)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    took, grown = time.process_time() - began, (peak_bytes() or 0) - before
    if fault is None and took > SECONDS:
        fault = f"took {took:.1f} s"
    if fault is None and grown > MEMORY[0] + MEMORY[1] * size:
        fault = f"took {grown >> 20} MiB for a file of {size} bytes"
    if watch.strayed:
        fault = f"outside: {watch.strayed[0]}"
        watch.strayed.clear()
    return fault


def _break_off(_number: int, _frame: FrameType | None) -> None:
    raise _TookTooLongError


def _unwanted(error: Exception, ours: Callable[[Exception], bool], private: str) -> str | None:
    if not ours(error):
        place = traceback.extract_tb(error.__traceback__)[-1]
        return (
            f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {error!s:.200}"
        )
    said = str(error)
    if not said or len(said) > LONGEST:
        return f"a sentence of {len(said)} characters: {said:.60}"
    if private in said:
        return f"a sentence with a path of the machine: {said:.200}"
    try:
        said.encode()
    except UnicodeEncodeError:
        return f"a sentence that no console takes: {said!r:.100}"
    return None
