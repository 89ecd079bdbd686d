"""Applying a vector at SDXL's size, against the host's own Load LoRA with the same file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from devtools.figures import Figure

ROUNDS = 5
JOB = Path(__file__).with_name("apply_job.py")


def apply_figures(comfyui: Path, work: Path) -> dict[str, Figure]:
    """Figures `apply_sdxl_*`: a bfloat16 vector of all cross-attention weights, fp16 base, CPU.

    Time is from the file on disk to patched weights; ours also checks the file's hash and that
    the base is the one the vector was made from. Memory is the peak above the process with its
    model. Each is run ROUNDS times, by turns and in a process of its own; the medians count, since
    a machine's new pages cost more at one time than at another. What was read while alpha changed
    is the most of all rounds.
    """
    file = work / "apply.tv.safetensors"
    _run("make", comfyui, file)
    rounds = [(_run("stock", comfyui, file), _run("ours", comfyui, file)) for _ in range(ROUNDS)]
    stock, ours = (
        {name: median(report[name] for report in reports) for name in reports[0]}
        for reports in zip(*rounds, strict=True)
    )
    read = max(report["read"] for _, report in rounds)
    figures = {
        "apply_sdxl_time_ratio": Figure(ours["first_s"] / stock["first_s"], "<= 1.1", n=ROUNDS),
        "apply_sdxl_memory_ratio": Figure(ours["peak_mb"] / stock["peak_mb"], "<= 1.1"),
        "apply_sdxl_change_alpha_time_ratio": Figure(
            ours["change_s"] / stock["change_s"], "<= 1.1", n=ROUNDS
        ),
        "apply_sdxl_change_alpha_read": Figure(read / 1e6, "<= 0.1", unit="MB"),
    }
    for name, report in (("ours", ours), ("stock", stock)):
        figures[f"apply_sdxl_{name}_s"] = Figure(report["first_s"], unit="s")
        figures[f"apply_sdxl_{name}_change_alpha_s"] = Figure(report["change_s"], unit="s")
        figures[f"apply_sdxl_{name}_peak_mb"] = Figure(report["peak_mb"], unit="MB")
    return figures


def _run(mode: str, comfyui: Path, file: Path) -> dict[str, Any]:
    command = [sys.executable, str(JOB), mode, str(comfyui), str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    lines = done.stdout.strip().splitlines()
    report: dict[str, Any] = json.loads(lines[-1]) if lines and mode != "make" else {}
    return report
