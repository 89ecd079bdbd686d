"""Measure the paper's claims on the demo model: `python dev.py bench claims`.

One process per concept and seed, as many at once as there are cores. Finished jobs are kept in
bench/results/claims/, so a stopped run goes on where it was, here or on another machine (--fresh
starts anew, --finished writes what there is). A result counts only while the automatic graph's
settings and the demo model are those it was measured with. Writes bench/results/claims.json,
docs/claims.md and its plots.
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

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT), str(ROOT / "bench")]

import torch  # noqa: E402 - after the path
from erasure.concepts import CONCEPTS  # noqa: E402
from erasure.kept import KEPT, finished, job_file  # noqa: E402
from erasure.page import write_page  # noqa: E402
from erasure.summary import claim_figures  # noqa: E402

from devtools.figures import Figure, figures_document, figures_table, write_figures  # noqa: E402
from devtools.in_process import import_host, load_pack  # noqa: E402
from devtools.machine import cpu_name  # noqa: E402

PARTS = ROOT / "bench" / "erasure"
SEEDS = 3
TIMING = KEPT / "inversion_time.json"


def run(script: str, output: Path, comfyui: Path, *words: str, threads: int) -> None:
    """Run a part in a process of its own; it writes `output` at its end."""
    command = [sys.executable, str(PARTS / script), "--comfyui", str(comfyui)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run([*command, "--output", str(output), *words], check=True, env=environment)


def asked_for(seeds: int) -> list[tuple[str, int]]:
    """All concepts and seeds, every concept once before any comes again."""
    return [(name, seed) for seed in range(seeds) for name in CONCEPTS]


def measure_missing(comfyui: Path, seeds: int, workers: int) -> None:
    """Run every job that has no result of the present recipe."""

    def one(job: tuple[str, int]) -> None:
        name, seed = job
        if finished(name, seed) is None:
            words = ("--concept", name, "--seed", str(seed))
            run("job.py", job_file(name, seed), comfyui, *words, threads=1)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, asked_for(seeds)))


def timings() -> dict[str, Figure]:
    """The batch's share of the separate inversions' time, on all threads and on one."""
    asked = "<= 0.25"
    if not TIMING.exists():
        return {"inversion_time_ratio": Figure(None, asked, reason="not measured yet")}
    timed = json.loads(TIMING.read_text(encoding="utf-8"))
    if not timed["same_loss"]:
        reason = f"the final losses differ by {timed['loss_gap']:.1%}"
        return {"inversion_time_ratio": Figure(None, asked, reason=reason)}
    count = timed["count"]
    return {
        "inversion_time_ratio": Figure(timed["ratio"], asked, n=count, unit="ratio"),
        "inversion_time_ratio_one_thread": Figure(timed["ratio_one_thread"], n=count, unit="ratio"),
    }


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
    if not options.finished:
        measure_missing(options.comfyui, options.seeds, options.workers)
        if not TIMING.exists():
            # Alone, so it may have every core, as ComfyUI has.
            run("inversion_time.py", TIMING, options.comfyui, threads=os.cpu_count() or 1)
    found = {job: finished(*job) for job in asked_for(options.seeds)}
    missing = [f"{name}/{seed}" for (name, seed), result in found.items() if result is None]
    if missing:
        print(f"not measured with the present recipe: {', '.join(missing)}")
    results = [result for result in found.values() if result is not None]
    if not results:
        print("no job has finished yet")
        return 1
    figures = claim_figures(results)
    figures.update(timings())
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
