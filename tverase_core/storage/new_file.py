"""A new file that appears whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import ConfigError

_ODD = re.compile(r"[/\\\0\ud800-\udfff]")
LONGEST_NAME = 255  # bytes on Linux; Windows and macOS count characters, which are fewer


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file, readable and writable, that takes the name `path` when the block ends well.

    After an error the old file is still there and the new one is gone. An OSError that names no
    file, as a full disk gives, is raised again with this one's name.
    """
    target = Path(path)
    _check_name(target.name)
    # Without the file's own name, so that a name of any allowed length can be written.
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        reason = f"while {target.name} was written: {error.strerror}. Nothing was kept of it"
        raise OSError(error.errno, reason) from error
    finally:
        temporary.unlink(missing_ok=True)


def is_plain_name(name: str) -> bool:
    """Whether a file in a given folder can be called so, on any system: no path, no half character.

    Python raises errors of its own when it is asked for a file of another name.
    """
    size = len(name.encode(errors="surrogatepass"))
    return 0 < size <= LONGEST_NAME and name not in (".", "..") and not _ODD.search(name)


def _check_name(name: str) -> None:
    """Raises ConfigError for a name that no file system takes."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{name!r}: holds half a character, which no file name can. Give another name."
        ) from error
    if size > LONGEST_NAME:
        raise ConfigError(
            f"{name[:40]}...: a file name of {size} bytes; file systems take {LONGEST_NAME}. "
            "Give a shorter name."
        )


def check_not_source(target: Path, sources: Iterable[str | os.PathLike[str]]) -> None:
    """Raises ConfigError when `target` is one of the files it is made of, a folder, or has a name
    that no file system takes."""
    _check_name(target.name)
    if target.is_dir():
        raise ConfigError(f"{target}: is a folder, expected a file. Give the file's name as well.")
    if any(target.resolve() == Path(source).resolve() for source in sources):
        raise ConfigError(f"{target.name}: would replace a file it is made of. Give another name.")


def check_room(target: Path, size: int) -> None:
    """Raises OSError when the disk has less room than `size` bytes, before a byte is written."""
    free = shutil.disk_usage(target.parent).free
    if free < size:
        raise OSError(
            errno.ENOSPC,
            f"{target.name} needs {size / 1e6:,.0f} MB and the disk has {free / 1e6:,.0f} MB free. "
            "Make room and try again",
        )
