"""What only a machine with a GPU can tell, in 8 minutes: `python dev.py bench device_check`.

Fine-tunes of models of SD1.5's, SDXL's and SD3's size with random weights, patches in half
precision, quantised kernels, dynamic VRAM. Each check has a time of its own; one that fails, hangs
or takes the process with it is named in the file with its error, and the others go on. Writes
bench/results/device_check.json. `--size tiny` runs every check small, on a CPU too; it is for the
tests, and writes where `--result` says.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# At the end: ahead, the pack's `nodes` would hide ComfyUI's.
sys.path.append(str(ROOT))

from bench.device_parts.supervise import Checks  # noqa: E402 - after the path
from devtools.figures import Figure, figures_document, figures_table, write_figures  # noqa: E402

RESULT = ROOT / "bench" / "results" / "device_check.json"
WHOLE_S = 480.0
TINY_PATIENCE = 10  # times as long, for a computer that is busy with other tests
# Seconds for each check, that of the process's start not among them.
BUDGETS = {
    "patches": 40.0,
    "dead_zone": 30.0,
    "quantised": 90.0,
    "finetune_sd15": 80.0,
    "finetune_sdxl": 100.0,
    "finetune_flow": 60.0,
}
# In a process of its own: dynamic VRAM is switched on when ComfyUI starts.
ALONE = {"dynamic_vram": 60.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--result", type=Path)
    parser.add_argument("--only", choices=(*BUDGETS, *ALONE), action="append")
    options = parser.parse_args()
    result = options.result or (RESULT if options.size == "full" else None)
    patience = TINY_PATIENCE if options.size == "tiny" else 1
    until = time.monotonic() + WHOLE_S * patience
    chosen = options.only or [*BUDGETS, *ALONE]
    with tempfile.TemporaryDirectory() as work:
        words = ["--comfyui", options.comfyui.resolve(), "--size", options.size, "--work", work]
        checks = Checks(words, until)
        for budgets in (BUDGETS, ALONE) if options.size == "full" else ({**BUDGETS, **ALONE},):
            checks.run({name: s * patience for name, s in budgets.items() if name in chosen})
            if options.size == "full" and checks.environment.get("device") == "cpu":
                print("This machine has no GPU, nothing was written. --size tiny runs on a CPU.")
                return 2
    document = written(checks)
    if result is not None:
        write_figures(result, document)
    print(figures_table(document))
    for name, report in checks.reports.items():
        print(f"{name}: {report['state']}, {report['seconds']} s. {report.get('why', '')}".strip())
    return int(any(report["state"] == "failed" for report in checks.reports.values()))


def written(checks: Checks) -> dict[str, Any]:
    """The file's content: figures, and how each check went."""
    figures: dict[str, Figure] = {}
    for name, report in checks.reports.items():
        for key, told in report.pop("figures", {}).items():
            figures[f"{name}_{key}"] = Figure(**told)
    states = [report["state"] for report in checks.reports.values()]
    figures["checks_done"] = Figure(states.count("done"), n=len(states))
    figures["checks_failed"] = Figure(states.count("failed"), "<= 0", n=len(states))
    when = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    command = "python dev.py bench device_check"
    document = figures_document("device_check", command, when, checks.environment, figures)
    return {**document, "checks": checks.reports}


if __name__ == "__main__":
    sys.exit(main())
