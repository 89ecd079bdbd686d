"""Extraction from files of SD1.5's and SDXL's true size: memory and time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from devtools.figures import Figure

JOB = Path(__file__).with_name("extract_job.py")
SIZES = {"sd15": 1.72, "sdxl": 5.14}  # GB of one file
TARGETS = {"extra_mb": "<= 400", "time_ratio": "<= 1.5"}
# Of one file's size: both files, ours in float32, and what the naive script holds in memory.
DISK, NAIVE_MEMORY = 5, 3.5


def extract_figures(comfyui: Path, work: Path) -> dict[str, Figure]:
    """Figures `extract_sd15_*`: float16 files in which every weight differs, float32 result.

    Each runs in a process of its own and starts with files that are not in the system's cache.
    time_ratio: against reading both files and writing as many bytes as the result has, the mean
    of a run before and one after. naive: loads both state dicts and subtracts; its result is
    float16, half of ours. ComfyUI's own extraction is another job, it ends in a low rank.
    """
    return _figures("sd15", work)


def extract_sdxl_figures(comfyui: Path, work: Path) -> dict[str, Figure]:
    """Figures `extract_sdxl_*`, as `extract_figures`."""
    return _figures("sdxl", work)


def _figures(size: str, work: Path) -> dict[str, Figure]:
    file_gb, free = SIZES[size], shutil.disk_usage(work).free / 1e9
    if free >= DISK * file_gb:
        return _measured(size, work, file_gb)
    reason = f"{DISK * file_gb:.0f} GB of disk are needed, {free:.0f} are free"
    return {f"extract_{size}_{n}": Figure(None, goal, reason=reason) for n, goal in TARGETS.items()}


def _measured(size: str, folder: Path, file_gb: float) -> dict[str, Figure]:
    _run("make", size, folder)
    before, ours, after = (_run(mode, size, folder) for mode in ("copy", "ours", "copy"))
    copied = (before["seconds"] + after["seconds"]) / 2
    stem = f"extract_{size}"
    figures = {
        f"{stem}_extra_mb": Figure(ours["peak_mb"], TARGETS["extra_mb"], unit="MB"),
        f"{stem}_time_ratio": Figure(ours["seconds"] / copied, TARGETS["time_ratio"]),
        f"{stem}_s": Figure(ours["seconds"], unit="s"),
        f"{stem}_copy_before_s": Figure(before["seconds"], unit="s"),
        f"{stem}_copy_after_s": Figure(after["seconds"], unit="s"),
    }
    available = _available_gb()
    if available < NAIVE_MEMORY * file_gb:
        reason = f"{NAIVE_MEMORY * file_gb:.0f} GB are needed, {available:.0f} are free"
        return figures | {
            f"{stem}_naive_extra_mb": Figure(None, unit="MB", reason=reason),
            f"{stem}_naive_time_ratio": Figure(None, reason=reason),
        }
    naive = _run("naive", size, folder)
    return figures | {
        f"{stem}_naive_extra_mb": Figure(naive["peak_mb"], unit="MB"),
        f"{stem}_naive_time_ratio": Figure(naive["seconds"] / copied),
    }


def _available_gb() -> float:
    """Memory that a new process can have (Linux)."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(dict(line.split(":") for line in lines)["MemAvailable"].split()[0]) / 1e6


def _run(mode: str, size: str, folder: Path) -> dict[str, Any]:
    """One job, its input files out of the cache before, its result gone after."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = [sys.executable, str(JOB), mode, size, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    (folder / "out.safetensors").unlink(missing_ok=True)
    lines = done.stdout.strip().splitlines()
    report: dict[str, Any] = json.loads(lines[-1]) if mode != "make" else {}
    return report
