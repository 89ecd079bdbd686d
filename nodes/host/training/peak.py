"""Memory that work takes, measured while it happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

SAMPLE_EVERY_S = 0.02


class Peak:
    """`extra`: the most bytes that were in use beyond those at the start."""

    extra = 0


@contextmanager
def measured_peak(device: torch.device) -> Iterator[Peak]:
    """Watch the memory of the device while the block runs; on a CPU that of this process."""
    peak = Peak()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        try:
            yield peak
        finally:
            peak.extra = torch.cuda.max_memory_allocated(device) - before
        return
    process, done = psutil.Process(), threading.Event()
    before = process.memory_info().rss

    def sample() -> None:
        while not done.wait(SAMPLE_EVERY_S):
            peak.extra = max(peak.extra, process.memory_info().rss - before)

    watcher = threading.Thread(target=sample, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
