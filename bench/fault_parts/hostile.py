"""Hostile inputs for every reader: `run` counts them and lists what went wrong."""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tverase_core.errors import TveraseError

from .readers import Reader, readers
from .watch import Watch, fault_of


@dataclass
class Found:
    """inputs: how many, by reader. refused: how many of these ended in a sentence of ours.
    faults: what went wrong, with the reader and the seed that makes the input again."""

    inputs: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def run(folder: Path, count: int, seed: int, output: Path, only: Sequence[str] = ()) -> Found:
    """Read `count` inputs, the readers in turn. folder: empty, for the files. output: ComfyUI's
    folder for what is written."""
    known = [r for r in readers(folder) if not only or r.name in only]
    watch, found = Watch([folder, output]), Found()
    for number in range(count):
        reader = known[number % len(known)]
        one(reader, f"{seed}-{number // len(known)}", folder, watch, found)
        if number % 5000 == 4999:
            print(f"{number + 1} of {count} inputs, {len(found.faults)} faults", flush=True)
    return found


def one(reader: Reader, seed: str, folder: Path, watch: Watch, found: Found) -> None:
    """One input, made from its seed."""
    digest = hashlib.sha256(f"{reader.name} {seed}".encode()).digest()
    source = random.Random(digest)
    size = reader.prepare(source)
    held = set(_files(folder))
    refused = []

    def ours(error: Exception) -> bool:
        # A missing file has a sentence of ours, and no number of the system's, or is the system's
        # word on a name.
        missing = isinstance(error, FileNotFoundError) and error.errno is None
        refused.append(error)
        return isinstance(error, TveraseError) or missing

    fault = fault_of(watch, reader.read, size, ours, str(folder))
    found.inputs[reader.name] += 1
    found.refused[reader.name] += bool(refused)
    left = [name for name in _files(folder) if name not in held]
    if fault is None and refused and left:
        fault = f"left behind: {left[0]}"
    for name in left:
        os.unlink(name)
    if fault is not None:
        found.faults.append(f"{reader.name} {seed}: {fault}")


def _files(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        yield from (os.path.join(place, name) for name in names)
