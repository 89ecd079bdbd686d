"""Parts of a task vector against the whole at equal erasure: `python dev.py bench masks`.

The automatic graph edits all blocks. Here subsets are measured, for the vector of that graph (with
a retained set) and for one learned as in the paper. One process per concept and seed; finished
ones are kept in bench/results/masks/ (--finished measures nothing more). Writes
bench/results/masks.json and docs/masks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean as mean
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

import torch  # noqa: E402 - after the path

from bench.erasure.bootstrap import clusters  # noqa: E402
from devtools.figures import Figure, figures_document, write_figures  # noqa: E402
from devtools.machine import cpu_name  # noqa: E402
from devtools.one_thread import run_in_one_thread  # noqa: E402

JOB = ROOT / "bench" / "erasure" / "mask_job.py"
KEPT = ROOT / "bench" / "results" / "masks"
JOBS = [(concept, seed) for seed in (0, 1) for concept in ("cat", "car")]
VECTORS = {"retained": "with a retained set, as in the automatic graph", "paper": "as in the paper"}
Result = dict[str, Any]


def rates_of(result: Result, part: str | None, group: str) -> list[float]:
    """One rate a prompt or trigger; no part: of the unedited model."""
    counts = result["base"] if part is None else result["parts"][part]["counts"]
    return [hits / count for hits, count in counts[group]]


def gap(results: list[Result], part: str, whole: str) -> Figure:
    """Retained rate with the part minus with the whole vector, paired by prompt."""
    gaps = [
        [a - b for a, b in zip(*(rates_of(r, p, "retained") for p in (part, whole)), strict=True)]
        for r in results
    ]
    pictures = sum(count for r in results for _, count in r["base"]["retained"])
    value = mean([g for job in gaps for g in job])
    return Figure(value, None, pictures, clusters(gaps), "rate")


def parts_of(results: list[Result], vector: str) -> list[str]:
    """The parts of a vector, the whole first."""
    found = {p for r in results for p in r["parts"] if p.startswith(f"{vector}: ")}
    return sorted(found, key=lambda part: (not part.endswith(": whole"), part))


def with_part(results: list[Result], part: str) -> list[Result]:
    """The runs that measured it: later ones may have left a vector out."""
    return [result for result in results if part in result["parts"]]


def figures_of(results: list[Result]) -> dict[str, Figure]:
    """`mask_<vector>_<part>`: what a part keeps more than the whole vector does."""
    return {
        key_of(part): gap(with_part(results, part), part, f"{vector}: whole")
        for vector in VECTORS
        for part in parts_of(results, vector)[1:]
    }


def key_of(part: str) -> str:
    return "mask_" + part.replace(": ", "_").replace(" ", "_").replace("%", "")


def gained(figure: Figure) -> str:
    ends = " ({:+.3f} to {:+.3f})".format(*figure.interval) if figure.interval else ""
    return f"{figure.value:+.3f}{ends}"


def named(results: list[Result]) -> str:
    """The runs as concept/seed."""
    return ", ".join(f"{result['concept']}/{result['seed']}" for result in results)


def page(document: dict[str, Any], results: list[Result]) -> str:
    lines = [
        "# Parts of a vector against the whole, at equal erasure",
        "",
        f"Written by `{document['command']}` on {document['date']}; do not edit. Demo model; runs "
        f"(concept/seed): {named(results)}. Each part is applied at the least strength, in steps "
        "of 0.1, at which no more than 3 % of the tuning pictures show the concept; counted are"
        " other triggers, prompts and seeds. Still shown: the concept's rate on held-out "
        "inversions and paraphrases. Kept: hits on the reported retained prompts over the "
        "unedited model's. Gain: retained rate minus the whole vector's, paired by prompt, with"
        " the 95 % interval over runs, then prompts. Weights: share of the whole vector's "
        "weights that the part edits.",
        "",
        "With this many rows an interval may lie above zero by chance: 16 comparisons of 5 % each.",
    ]
    for vector, label in VECTORS.items():
        learned = [result for result in results if parts_of([result], vector)]
        lines += ["", f"## A vector learned {label}"]
        if len(learned) < len(results):
            lines += ["", f"Runs: {named(learned)}."]
        lines += ["", *table(results, vector)]
    return "\n".join(lines) + "\n"


def table(results: list[Result], vector: str) -> list[str]:
    lines = [
        "| part | weights | strength, by run | still shown | kept | gain |",
        "|---|---|---|---|---|---|",
    ]
    figures = figures_of(results)
    for part in parts_of(results, vector):
        runs = with_part(results, part)
        cells = [r["parts"][part] for r in runs]
        strengths = ", ".join(
            f"{c['strength']:.1f}{'' if c['reached'] else ' (not enough)'}" for c in cells
        )
        shown = mean([x for r in runs for x in rates_of(r, part, "held_out")])
        kept, base = (
            mean([x for r in runs for x in rates_of(r, p, "retained")]) for p in (part, None)
        )
        told = gained(figures[key_of(part)]) if key_of(part) in figures else ""
        weights = mean([c["weights"] for c in cells])
        name = part.removeprefix(f"{vector}: ")
        row = [name, f"{weights:.0%}", strengths, f"{shown:.3f}", f"{kept / base:.3f}", told]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--vectors", nargs="+", choices=VECTORS, default=list(VECTORS))
    parser.add_argument("--finished", action="store_true", help="measure nothing more")
    options = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    files = {job: KEPT / f"{job[0]}-{job[1]}.json" for job in JOBS}

    def one(job: tuple[str, int]) -> None:
        if not files[job].exists():
            words = ("--concept", job[0], "--seed", str(job[1]), "--vectors", *options.vectors)
            places = ("--comfyui", options.comfyui, "--output", files[job])
            run_in_one_thread(JOB, *words, *places)

    if not options.finished:
        with ThreadPoolExecutor(options.workers) as pool:
            list(pool.map(one, JOBS))
    results = [json.loads(f.read_text(encoding="utf-8")) for f in files.values() if f.exists()]
    if not results:
        print("no job has finished yet")
        return 1
    document = figures_document(
        "masks",
        "python dev.py bench masks",
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        {"cpu": cpu_name(), "device": "cpu", "torch": torch.__version__},
        figures_of(results),
    )
    write_figures(ROOT / "bench" / "results" / "masks.json", document)
    text = page(document, results)
    (ROOT / "docs" / "masks.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
