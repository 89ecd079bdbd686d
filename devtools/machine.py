"""What a measurement ran on: times can only be compared on the same."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cpu_name() -> str:
    """The processor's model and how many of its cores there are, "AMD EPYC, 2 cores"."""
    listing = Path("/proc/cpuinfo")
    found = listing.read_text(encoding="utf-8") if listing.exists() else ""
    models = [
        line.partition(":")[2] for line in found.splitlines() if line.startswith("model name")
    ]
    name = models[0] if models else platform.processor() or platform.machine()
    return f"{' '.join(name.split())}, {os.cpu_count()} cores"
