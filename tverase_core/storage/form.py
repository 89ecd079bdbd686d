"""How a result lies in a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """read gives back, to the bit, what write was given, or raises an error of the project's, an
    OSError, LookupError, TypeError or ValueError."""

    write: Callable[[Path, T], object]
    read: Callable[[Path], T]
