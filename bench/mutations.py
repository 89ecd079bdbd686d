"""Do the tests see faults? `python dev.py bench mutations`.

Plants small faults one at a time in a copy of the working tree, runs the tests that belong to the
file, and writes bench/results/mutations.json: how many there are, the share that a test saw, and
for each fault which test it was. --only FILE plants those of some files, --new those that have no
result yet; the others' are taken from the last run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "bench" / "results" / "mutations.json"
sys.path.append(str(ROOT))

import torch  # noqa: E402 - after the path

from bench.mutation_parts.fault import Fault, places_of  # noqa: E402
from bench.mutation_parts.running import Copy, Outcome  # noqa: E402
from bench.mutation_parts.table import FAULTS  # noqa: E402
from devtools.figures import (  # noqa: E402
    Figure,
    figures_document,
    figures_table,
    read_figures,
    write_figures,
)
from devtools.machine import cpu_name  # noqa: E402

Job = tuple[str, Fault | None, tuple[str, ...]]  # file or folder, fault, tests
Row = dict[str, str]


def run_all(jobs: Sequence[Job], comfyui: Path, workers: int) -> list[Outcome]:
    """Each job in a free one of as many copies as there are workers, in the order of the jobs."""
    with tempfile.TemporaryDirectory() as base, ThreadPoolExecutor(workers) as pool:
        free: Queue[Copy] = Queue()
        for number in range(workers):
            free.put(Copy(ROOT, Path(base) / str(number), comfyui))

        def one(job: Job) -> Outcome:
            file, fault, tests = job
            copy = free.get()
            try:
                found = copy.test(tests) if fault is None else copy.test_with(file, fault, tests)
            finally:
                free.put(copy)
            what = f"{file}: {fault.what if fault else 'no fault'}"
            print(f"{what}: {found.by or 'all tests passed'}", flush=True)
            return found

        try:
            return list(pool.map(one, jobs))
        finally:
            while not free.empty():
                free.get().close()


def without_faults(jobs: Sequence[Job]) -> list[Job]:
    """All their tests, by folder."""
    folders: dict[str, dict[str, None]] = {}
    for place in (place for _, _, tests in jobs for place in tests):
        folders.setdefault(Path(place).parent.as_posix(), {})[place] = None
    return [(folder, None, tuple(places)) for folder, places in folders.items()]


def row(file: str, fault: Fault, found: Outcome) -> Row:
    """One fault in the result file."""
    if found.by is not None:
        return {"file": file, "fault": fault.what, "result": "caught", "by": found.by}
    if fault.harmless:
        return {"file": file, "fault": fault.what, "result": "harmless", "why": fault.harmless}
    return {"file": file, "fault": fault.what, "result": "survived"}


def figures_of(rows: Sequence[Row]) -> dict[str, Figure]:
    """A fault that is said to be harmless and was caught all the same counts."""
    counted = [r for r in rows if r["result"] != "harmless"]
    caught = sum(r["result"] == "caught" for r in counted)
    return {
        "mutations_planted": Figure(len(rows), ">= 60"),
        "mutations_harmless": Figure(len(rows) - len(counted)),
        "mutations_caught": Figure(caught / len(counted), ">= 0.97", len(counted), unit="share"),
    }


def with_others(rows: Sequence[Row]) -> list[Row]:
    """These, in the place of their files', and those of the last run that are still in the table,
    in its order."""
    known = read_figures(RESULT)["faults"] if RESULT.exists() else []
    by_fault = {(row["file"], row["fault"]): row for row in (*known, *rows)}
    table = [(file, fault.what) for file, faults in FAULTS.items() for fault in faults]
    return [by_fault[place] for place in table if place in by_fault]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--only", metavar="FILE", nargs="+", choices=FAULTS, default=())
    parser.add_argument("--new", action="store_true", help="plant those without a result")
    options = parser.parse_args()
    files = options.only or list(FAULTS)
    chosen = [(f, fault, places_of(f, fault, ROOT)) for f in files for fault in FAULTS[f]]
    if options.new:
        known = {(row["file"], row["fault"]) for row in with_others(())}
        chosen = [job for job in chosen if (job[0], job[1].what) not in known]
    # A test that fails by itself would catch everything.
    for outcome in run_all(without_faults(chosen), options.comfyui, options.workers):
        if outcome.by is not None:
            print(f"{outcome.by} fails without a fault: nothing would be known\n{outcome.said}")
            return 1
    found = run_all(chosen, options.comfyui, options.workers)
    outcomes = zip(chosen, found, strict=True)
    rows = [row(file, fault, outcome) for (file, fault, _), outcome in outcomes]
    survivors = [r for r in rows if r["result"] == "survived"]
    for survivor in survivors:
        print(f"SURVIVED {survivor['file']}: {survivor['fault']}")
    if options.only or options.new:
        rows = with_others(rows)
    document = figures_document(
        "mutations",
        "python dev.py bench mutations",
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        {"cpu": cpu_name(), "torch": torch.__version__, "host": options.comfyui.name},
        figures_of(rows),
    )
    print(figures_table(document))
    write_figures(RESULT, {**document, "faults": rows})
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
