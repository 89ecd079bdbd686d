"""One step of Concept Fine-tune at SD1.5's size: does it run, and was its estimate right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from devtools.figures import Figure

JOB = Path(__file__).with_name("finetune_job.py")
# glibc keeps what a program has freed for its next wish, and a process counts as holding it. With
# this setting it gives back at once, so that what is measured is what is in use, as on a GPU.
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
CASES = (
    "rank16_recomputed",
    "rank16",
    "cross_attention_recomputed",
    "whole_recomputed",
    "whole_recomputed_8bit",
)


def finetune_figures(comfyui: Path, work: Path) -> dict[str, Figure]:
    """Figures `finetune_sd15_*` and `memory_estimate_error`: fp16 base, float32 computation on the
    CPU, AdamW without moving average, one picture with a 16x16 latent.

    Each case has a process of its own. `used` is what the process grew by during the step, the
    model already loaded and freed memory given back at once; `process_grew` is the same in another
    process with the allocator as it usually is, which holds freed memory too. The estimate is
    compared with `used`. A case without room is refused by the node and stands without value.
    `moved` is the share of trained weights that the step changed.
    """
    figures: dict[str, Figure] = {}
    errors = []
    for case in CASES:
        name, report = f"finetune_sd15_{case}", _run(case, comfyui, work, GIVE_BACK)
        if "refused" in report:
            figures[f"{name}_used"] = Figure(None, unit="GiB", reason=report["refused"])
            continue
        usual = _run(case, comfyui, work, {})
        errors.append(abs(report["estimated"] - report["used"]) / report["used"])
        figures[f"{name}_estimated"] = Figure(report["estimated"], unit="GiB")
        figures[f"{name}_used"] = Figure(report["used"], unit="GiB")
        figures[f"{name}_process_grew"] = Figure(usual["used"], unit="GiB")
        figures[f"{name}_whole_process"] = Figure(usual["process"], "<= 20", unit="GiB")
        figures[f"{name}_step_s"] = Figure(usual["seconds"], unit="s")
        figures[f"{name}_moved"] = Figure(report["moved"], ">= 1", n=report["trained"])
    if errors:
        figures["memory_estimate_error"] = Figure(max(errors), "<= 0.15", n=len(errors))
    else:
        figures["memory_estimate_error"] = Figure(None, "<= 0.15", reason="no case had room")
    return figures


def _run(case: str, comfyui: Path, work: Path, variables: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, str(JOB), case, str(comfyui), str(work)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    report: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return report
