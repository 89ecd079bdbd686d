"""One process of the extraction measurement, on files of a real model's size.

    python bench/size_parts/extract_job.py make|copy|ours|naive SIZE FOLDER

make writes the two files, float16, every weight of the second another one. copy reads both and
writes as many bytes as our result has. naive loads both state dicts, subtracts and saves, in the
files' own dtype, as published scripts do. Each writes to the disk before it ends. Prints JSON:
seconds, and the peak of resident memory above the interpreter's with its libraries, in MB.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

import torch
from safetensors.torch import load_file, save_file

from bench.size_parts.apply_job import Watch
from bench.size_parts.big_model import POOL, shapes
from tverase_core.files.extract import extract_between_files
from tverase_core.storage.reproducible import header_bytes
from tverase_core.tensors import tensor_bytes

BUFFER = 1 << 22


def main() -> int:
    mode, size, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    base, tuned, out = (folder / f"{name}.safetensors" for name in ("base", "tuned", "out"))
    if mode == "make":
        make(size, base, tuned)
        return 0
    with PartsWatch() as watch:
        start = time.perf_counter()
        if mode == "ours":
            extract_between_files(base, tuned, out)
        elif mode == "naive":
            naive(base, tuned, out)
        else:
            copy(base, tuned, out)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mb": watch.peak_mb, "bytes": out.stat().st_size}))
    return 0


class PartsWatch(Watch):
    """Counts own memory and mapped files apart: the system drops pages of libraries when it needs
    room, which would hide as much of what the job took."""

    def __init__(self) -> None:
        super().__init__()
        self._before = self._parts()

    def _parts(self) -> tuple[int, int]:
        lines = Path("/proc/self/status").read_text().splitlines()
        status = dict(line.split(":") for line in lines)
        return int(status["RssAnon"].split()[0]), int(status["RssFile"].split()[0])

    def _now(self) -> float:
        pairs = zip(self._parts(), self._before, strict=True)
        return sum(max(0, now - before) for now, before in pairs) * 1024 / 1e6


def make(size: str, base: Path, tuned: Path) -> None:
    """Both files, tensor by tensor; a pool of random numbers is used again and again."""
    seeded = torch.Generator().manual_seed(0)
    pool = torch.randn(POOL, generator=seeded) * 0.03
    moved = pool + torch.randn(POOL, generator=seeded) * 0.001
    found = {f"model.{key}": tuple(shape) for key, shape in shapes(size).items()}
    kinds = {key: (torch.float16, shape) for key, shape in sorted(found.items())}
    for path, numbers in ((base, pool.half()), (tuned, moved.half())):
        view = tensor_bytes(numbers)
        with path.open("wb") as file:
            file.write(header_bytes(kinds, {"format": "pt"}))
            for _, shape in kinds.values():
                left = 2 * math.prod(shape)
                while left:
                    left -= file.write(view[: min(left, len(view))])
            synchronise(file.fileno())


def copy(base: Path, tuned: Path, out: Path) -> None:
    buffer = bytearray(os.urandom(BUFFER))
    for path in (base, tuned):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    # The result is float32, and the files hold float16.
    left = 2 * base.stat().st_size
    with out.open("wb") as file:
        while left:
            left -= file.write(memoryview(buffer)[: min(left, BUFFER)])
        synchronise(file.fileno())


def naive(base: Path, tuned: Path, out: Path) -> None:
    old, new = load_file(base), load_file(tuned)
    save_file({key: new[key] - old[key] for key in old}, out)
    with out.open("rb") as file:
        synchronise(file.fileno())


def synchronise(descriptor: int) -> None:
    """To the disk, and out of the system's cache where it can be told so."""
    os.fsync(descriptor)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    sys.exit(main())
