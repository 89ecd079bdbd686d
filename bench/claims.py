"""Measure the paper's claims on the demo model: `python dev.py bench claims`.

One process per concept and seed, as many at once as there are cores; finished jobs are kept, so a
stopped run goes on where it was (--fresh starts anew, --finished writes what there is). Writes
bench/results/claims.json, docs/claims.md and its plots.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT), str(ROOT / "bench")]

import torch  # noqa: E402 - after the path
from erasure.concepts import CONCEPTS  # noqa: E402
from erasure.page import write_page  # noqa: E402
from erasure.summary import claim_figures  # noqa: E402

from devtools.in_process import import_host, load_pack  # noqa: E402
from devtools.machine import cpu_name  # noqa: E402
from tverase_core.figures import (  # noqa: E402
    Figure,
    figures_document,
    figures_table,
    write_figures,
)

PARTS = ROOT / "bench" / "erasure"
SEEDS = 3
KEPT = ROOT / ".host" / "work" / "claims"


def run(script: str, output: Path, comfyui: Path, *words: str) -> dict[str, Any]:
    """The script's result, from its file when it is there already."""
    if not output.exists():
        command = [sys.executable, str(PARTS / script), "--comfyui", str(comfyui)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, "--output", str(output), *words], check=True, env=environment)
    result: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return result


def jobs(comfyui: Path, seeds: int, workers: int) -> list[dict[str, Any]]:
    """All concepts and seeds."""
    asked = [(name, seed) for seed in range(seeds) for name in CONCEPTS]

    def one(job: tuple[str, int]) -> dict[str, Any]:
        name, seed = job
        file = KEPT / f"{name}-{seed}.json"
        return run("job.py", file, comfyui, "--concept", name, "--seed", str(seed))

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, asked))


def finished_jobs() -> list[dict[str, Any]]:
    """The results that are there, in a fixed order."""
    files = (KEPT / f"{name}-{seed}.json" for seed in range(SEEDS) for name in CONCEPTS)
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]


def timing(comfyui: Path, run_it: bool) -> Figure:
    """The batch's share of the separate inversions' time."""
    file = KEPT / "inversion_time.json"
    if not run_it and not file.exists():
        return Figure(None, "<= 0.25", reason="not measured yet")
    timed = run("inversion_time.py", file, comfyui)
    if not timed["same_loss"]:
        reason = f"the final losses differ by {timed['loss_gap']:.1%}"
        return Figure(None, "<= 0.25", reason=reason)
    return Figure(timed["ratio"], "<= 0.25", n=timed["count"], unit="ratio")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fresh", action="store_true", help="forget finished jobs")
    parser.add_argument("--finished", action="store_true", help="measure nothing more")
    options = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        for file in KEPT.glob("*.json"):
            file.unlink()
    comfyui, new = options.comfyui, not options.finished
    results = jobs(comfyui, options.seeds, options.workers) if new else finished_jobs()
    if not results:
        print("no job has finished yet")
        return 1
    figures = claim_figures(results)
    figures["inversion_time_ratio"] = timing(comfyui, new)
    import_host(options.comfyui)
    load_pack()
    import comfyui_version

    document = figures_document(
        "claims",
        "python dev.py bench claims"
        + (f" --seeds {options.seeds}" * (options.seeds != SEEDS))
        + " --finished" * options.finished,
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        {
            "cpu": cpu_name(),
            "device": "cpu",
            "torch": torch.__version__,
            "host": f"ComfyUI {comfyui_version.__version__}",
        },
        figures,
    )
    (ROOT / "bench" / "results").mkdir(exist_ok=True)
    write_figures(ROOT / "bench" / "results" / "claims.json", document)
    write_page(ROOT / "docs" / "claims.md", ROOT / "docs" / "images", document, figures, results)
    print(figures_table(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
