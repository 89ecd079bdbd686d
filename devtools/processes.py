"""Child processes that never outlive the command that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO

WINDOWS = os.name == "nt"


def stop_on_terminate() -> None:
    """Let a polite kill of this process run its clean-up, as Ctrl-C does."""

    def leave(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):  # the second when the terminal closes; not on Windows
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), leave)


def start_group(
    command: Sequence[str | Path], env: Mapping[str, str], folder: Path, output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a process as the head of its own group, so that all of it can be ended at once."""
    flags = subprocess.CREATE_NEW_PROCESS_GROUP if WINDOWS else 0  # type: ignore[attr-defined,unused-ignore]
    return subprocess.Popen(
        [str(word) for word in command],
        env=dict(env),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=not WINDOWS,
        creationflags=flags,
    )


def end_group(process: subprocess.Popen[bytes], patience_s: float = 10.0) -> None:
    """End a process of `start_group` and what it started: ask, then insist."""
    if WINDOWS:
        if process.poll() is None:
            process.terminate()
        process.wait()
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience_s)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def foreground(command: Sequence[str | Path], env: Mapping[str, str], folder: Path) -> int:
    """Run a command in the user's terminal; returns its exit code.

    It shares the terminal's group and so hears Ctrl-C itself; it gets time to tidy up. When only
    this process is interrupted, the signal is passed on.
    """
    process = subprocess.Popen([str(word) for word in command], env=dict(env), cwd=folder)
    try:
        return process.wait()
    except KeyboardInterrupt:
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        raise
    finally:
        _finish(process)


def _finish(process: subprocess.Popen[bytes]) -> None:
    asks = [process.terminate] if WINDOWS else [lambda: process.send_signal(signal.SIGINT)]
    for ask in [*asks, process.terminate]:
        if process.poll() is not None:
            return
        ask()
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
    if process.poll() is None:
        process.kill()
        process.wait()
