"""Measure erasing on the second demo model, a transformer: `python dev.py bench flow`.

base: every object drawn in this process with the settings of workflows/api/erase_concept_flow.json.
erased: `python dev.py demo --flow`, with a server of its own.
attacks: the graph's task vector, the paper's and ESD on two objects and a style, each at the least
strength that erases, then Concept Inversion at its standard budget on each and on the base.
strengths: the graph's vector at other CFG values and shifts. parts: what of it carries the effect.
transfer: a vector of rank 16, one by the paper's recipe, and the graph's on a few-step distillate.

Name one to measure only that; what bench/results/flow.json holds of the others stays. Without a
name: base and erased. The last four keep each finished task in bench/results/flow/ and vectors in
.cache/flow/, so a stopped run goes on where it was; --concepts, --seeds and --edits choose, and one
concept ends before the next begins. --smoke has budgets so small that its figures mean nothing, and
keeps none. The recipe was found on another model and other seeds (100 of `demo`, 1 in training);
these figures are of the shipped one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from bench import demo_model  # noqa: E402 - after the path
from bench.erasure.concepts import CONCEPTS  # noqa: E402
from bench.flow_parts import page  # noqa: E402
from bench.flow_parts.distilling import distilling  # noqa: E402
from bench.flow_parts.edits import ATTACKED, EDITS  # noqa: E402
from bench.flow_parts.kept import KEPT, WORK, finished, results_of  # noqa: E402
from bench.flow_parts.running import ordered, run_missing  # noqa: E402
from bench.flow_parts.settings import FULL, SMOKE, Settings  # noqa: E402
from bench.flow_parts.summary import by_kind, evidence  # noqa: E402
from devtools.api_graph import API_GRAPHS, read_graph, sampling_of  # noqa: E402
from devtools.figures import (  # noqa: E402
    Figure,
    figures_document,
    figures_table,
    read_figures,
    write_figures,
)
from devtools.in_process import import_host, load_pack  # noqa: E402
from devtools.machine import cpu_name  # noqa: E402

RESULT = ROOT / "bench" / "results" / "flow.json"
SEED = 720_000  # 700_000 and 710_000 told that earlier weights had to be trained on
SEEDS = 20  # of the evidence, at most: all that are finished count
ASKED = {
    "flow_target_hit_before": None,
    "flow_target_hit_after": "<= 0.05",
    "flow_retained_ratio": ">= 0.93",
    "flow_demo_seconds": "<= 600",
}
# Written by `bench flow_families` and `bench encoders`; they belong to this picture too.
ELSEWHERE = {
    "flow_families": ("families_total", "families_trained", "flow_memory_estimate_error"),
    "encoders": ("encoders_inverted",),
}
PARTS = ("base", "erased", "attacks", "strengths", "parts", "transfer")
TASKS = {
    "strengths": ("drawn",),
    "parts": ("parts",),
    "transfer": ("rank16", "tv_paper", "few_step"),
}


def base(comfyui: Path, count: int) -> dict[str, Figure]:
    """How often the judge sees what was asked for; `count` pictures of each object."""
    import_host(comfyui)
    load_pack()
    import torch
    from tverase_pack.demo.judge_network import load_demo_judge
    from tverase_pack.nodes.host.app.demo_model import load_demo_model
    from tverase_pack.tverase_core.judging.statistics import wilson

    judge = load_demo_judge(demo_model.MODEL / "demo_judge.safetensors")
    sampling = sampling_of(read_graph(API_GRAPHS / "erase_concept_flow.json"))
    hits: dict[str, int] = {}
    with torch.inference_mode():
        parts = load_demo_model(demo_model.MODEL, "flow")
        for number, name in enumerate(judge.objects):
            seed = SEED + 1000 * number
            drawn = demo_model.pictures(parts, f"a {name}", count, seed, sampling)
            hits[name] = int((judge.score(drawn, name) >= 0.5).sum())
            print(name, hits[name], "of", count, flush=True)
    least = min(hits.values())
    made = {}
    for name, asked, found, n in (
        ("flow_base_hit_mean", ">= 0.97", sum(hits.values()), count * len(hits)),
        ("flow_base_hit_worst", ">= 0.85", least, count),
    ):
        made[name] = Figure(found / n, asked, n, wilson(found, n), "rate")
    size = sum(p.stat().st_size for p in demo_model.MODEL.glob("*flow*"))
    return {**made, "flow_model_bytes": Figure(size, "<= 20000000", unit="bytes")}


def erased(comfyui: Path) -> dict[str, Figure]:
    """What `python dev.py demo --flow` measures."""
    with tempfile.TemporaryDirectory() as folder:
        script = ROOT / "demo" / "run_demo.py"
        words = ["--comfyui", str(comfyui), "--flow", "--output", folder]
        subprocess.run([sys.executable, str(script), *words], check=True, cwd=ROOT)
        measured = read_figures(Path(folder) / "figures.json")["figures"]
    return {name: again(measured[name.removeprefix("flow_")], ASKED[name]) for name in ASKED}


def again(entry: Mapping[str, Any], asked: str | None) -> Figure:
    """A figure of a file, asked for anew."""
    interval = tuple(entry["interval"]) if "interval" in entry else None
    kept = {name: entry.get(name) for name in ("n", "unit", "reason")}
    return Figure(entry["value"], asked, interval=interval, **kept)


def elsewhere() -> dict[str, Figure]:
    """The figures that other benches wrote to files of their own."""
    found = {}
    for bench, names in ELSEWHERE.items():
        entries = read_figures(RESULT.with_name(f"{bench}.json"))["figures"]
        found |= {name: again(entries[name], entries[name].get("target")) for name in names}
    return found


def measured(options: argparse.Namespace, settings: Settings, folder: Path) -> dict[str, Figure]:
    """Run what the part misses; the figures of every finished task of the evidence."""
    tasks: tuple[str, ...] = TASKS.get(options.part, ())
    if options.part == "attacks":
        tasks = tuple(f"attack-{side}" for side in ("base", *options.edits))
    keys = ordered(tasks, options.concepts, range(options.first_seed, options.seeds))
    folder.mkdir(parents=True, exist_ok=True)
    if "few_step" in tasks:
        distil(options.comfyui, settings, options.smoke)
    run_missing(keys, options.comfyui, folder, settings, options.workers, options.smoke)
    return finished_figures(settings, folder)


def distil(comfyui: Path, settings: Settings, smoke: bool) -> None:
    """Make the distillate, unless it is there."""
    if distilling(settings).file(WORK).exists():
        return
    WORK.mkdir(parents=True, exist_ok=True)
    script = ROOT / "bench" / "flow_parts" / "distilling.py"
    words = ["--comfyui", comfyui, "--work", WORK, *["--smoke"] * smoke]
    subprocess.run([sys.executable, script, *words], check=True)


def finished_figures(settings: Settings, folder: Path) -> dict[str, Figure]:
    """The evidence of all finished tasks; docs/flow.md tells it run by run."""
    runs = {}
    for seed in range(SEEDS):
        for concept in CONCEPTS:
            files = results_of(concept, seed, settings, folder)
            found = {t: finished(f, settings.digest(concept)) for t, f in files.items()}
            run = {task: result for task, result in found.items() if result is not None}
            if run:
                runs[concept, seed] = run
    figures = evidence(list(runs.values())) | by_kind(runs)
    if folder == KEPT:
        page.write(runs, settings, figures)
    return figures


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=PARTS)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100, help="pictures of each object (100)")
    parser.add_argument("--seeds", type=int, default=3, help="end before this one")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--concepts", nargs="+", choices=CONCEPTS, default=list(CONCEPTS))
    parser.add_argument("--edits", nargs="+", choices=EDITS, default=list(ATTACKED))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--smoke", action="store_true", help="tiny budgets, no figures kept")
    return parser.parse_args()


def main() -> int:
    options = parsed()
    settings, folder = (SMOKE, WORK / "smoke") if options.smoke else (FULL, KEPT)
    figures: dict[str, Figure] = {}
    if options.part in (None, "base"):
        figures |= base(options.comfyui, options.count)
    if options.part in (None, "erased"):
        figures |= erased(options.comfyui)
    if options.part in TASKS or options.part == "attacks":
        figures |= measured(options, settings, folder)
    before = read_figures(RESULT)["figures"] if RESULT.exists() else {}
    kept = {name: again(entry, entry.get("target")) for name, entry in before.items()}
    import torch

    version = (options.comfyui / "comfyui_version.py").read_text("utf-8").split('"')[1]
    environment = {
        "cpu": cpu_name(),
        "device": "cpu",
        "torch": torch.__version__,
        "host": f"ComfyUI {version}",
    }
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    command = "python dev.py bench flow"
    merged = figures if options.smoke else {**kept, **elsewhere(), **figures}
    document = figures_document("flow", command, today, environment, merged)
    if not options.smoke:
        write_figures(RESULT, document)
    print(figures_table(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
