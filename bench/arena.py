"""Every method in one fair arena, and claims 2 to 4 of the paper: `python dev.py bench arena`.

Each result is a small file in bench/results/arena/, written when it is there, so a stopped run goes
on where it was, here or on another machine. The most telling part comes first (see plan.py).
--seeds 1, --concepts and --only do a part; --workers so many single-threaded processes at once;
--finished measures nothing more; --trial runs all at a tiny budget, into .cache/arena/trial,
to see it work. Writes bench/results/arena.json, docs/claims.md and the pictures, as far as there
are results; what is not there yet is said.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

import torch  # noqa: E402 - after the path

from bench.arena_parts.page import write_page  # noqa: E402
from bench.arena_parts.plan import CLAIMS, Job, Leg, every_job, legs, next_ready  # noqa: E402
from bench.arena_parts.settings import EVERY, METHODS, SEEDS, TRIAL, Budget  # noqa: E402
from bench.arena_parts.store import KEPT, Store  # noqa: E402
from bench.arena_parts.summary import arena_figures  # noqa: E402
from devtools.figures import figures_document, figures_table, write_figures  # noqa: E402
from devtools.machine import cpu_name  # noqa: E402
from devtools.one_thread import run_in_one_thread  # noqa: E402

RESULT = ROOT / "bench" / "results" / "arena.json"
TRIED = ROOT / ".cache" / "arena" / "trial"


def run(leg: Leg, comfyui: Path, trial: bool, folder: Path) -> bool:
    """The leg in a process of its own; whether it came to its end."""
    first = leg.jobs[0]
    parts = [job.part for job in leg.jobs]
    words = ["--comfyui", str(comfyui), "--folder", str(folder), *["--trial"] * trial]
    words += ["--method", first.method, "--concept", first.concept, "--seed", str(first.seed)]
    script = ROOT / "bench" / "arena_parts" / "leg.py"
    began = time.monotonic()
    status = run_in_one_thread(script, *words, "--parts", *parts, check=False)
    ended = "done" if status == 0 else f"FAILED ({status})"
    print(f"arena: {leg.name}: {ended} in {time.monotonic() - began:.0f} s", flush=True)
    return status == 0


def measure(
    waiting: list[Leg], store: Store, workers: int, comfyui: Path, trial: bool
) -> list[Leg]:
    """Run all legs that can be run; returns those that failed or waited for one that did."""
    done = set(store.all_finished(every_job()))
    waiting = [leg for leg in waiting if not all(job in done for job in leg.jobs)]
    lost: list[Leg] = []
    running: dict[Future[bool], Leg] = {}
    with ThreadPoolExecutor(workers) as pool:
        while waiting or running:
            leg = next_ready(waiting, done) if len(running) < workers else None
            if leg is not None:
                waiting.remove(leg)
                running[pool.submit(run, leg, comfyui, trial, store.folder)] = leg
                continue
            if not running:
                break
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                leg = running.pop(ended)
                if ended.result():
                    done |= set(leg.jobs)
                else:
                    lost.append(leg)
    return lost + waiting


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="the first so many")
    parser.add_argument("--concepts", nargs="+", choices=EVERY, default=EVERY)
    names = [*METHODS, *CLAIMS]
    parser.add_argument("--only", nargs="+", choices=names, help="methods and claims")
    parser.add_argument("--fresh", action="store_true", help="forget what there is")
    parser.add_argument("--finished", action="store_true", help="measure nothing more")
    parser.add_argument("--trial", action="store_true", help="a tiny budget, to see it work")
    return parser.parse_args()


def asked_for(options: argparse.Namespace) -> list[Leg]:
    """The legs of the methods, concepts and seeds that were named."""
    only = options.only or [*METHODS, *CLAIMS]
    methods = [name for name in METHODS if name in only]
    claims = [name for name in CLAIMS if name in only]
    concepts = [name for name in EVERY if name in options.concepts]
    return legs(methods, concepts, SEEDS[: options.seeds], claims)


def write(store: Store, options: argparse.Namespace) -> None:
    """The figures and the page, of all that there is."""
    found = store.all_finished(every_job())
    if not found:
        print("no job has finished yet")
        return
    figures = arena_figures(found, store.budget)
    document = figures_document(
        "arena",
        "python dev.py bench arena" + " --trial" * options.trial,
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        {"cpu": cpu_name(), "device": "cpu", "torch": torch.__version__},
        figures,
    )
    if options.trial:
        page, plots, result = TRIED / "claims.md", TRIED / "images", TRIED / "arena.json"
        plots.mkdir(exist_ok=True)
    else:
        page, plots, result = ROOT / "docs" / "claims.md", ROOT / "docs" / "images", RESULT
    write_figures(result, document)
    write_page(page, plots, document, found, store.budget)
    print(figures_table(document))


def missing(found: Sequence[Job]) -> list[Job]:
    """Jobs of the whole arena that are not there."""
    return [job for job in every_job() if job not in set(found)]


def main() -> int:
    options = parsed()
    folder, budget = (TRIED / "results", TRIAL) if options.trial else (KEPT, Budget())
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder, budget)
    if options.fresh:
        for file in folder.glob("*.json"):
            file.unlink()
    lost: list[Leg] = []
    if not options.finished:
        parts = store, options.workers, options.comfyui, options.trial
        lost = measure(asked_for(options), *parts)
    for leg in lost:
        print(f"not measured: {leg.name}")
    write(store, options)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
