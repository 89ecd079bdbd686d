"""How much faster the demo is than it was: `python dev.py bench pace [--rounds N] [--first]`.

Commit 950c872, in a worktree of its own, and this working tree run their demos in turn on this
machine, which should do nothing else: three rounds take about forty minutes on two cores. What
each took and what came out of it stand side by side, since faster and worse is no gain. Written to
bench/results/pace.json after each round. --first runs the straight graph alone, until its first
erased picture, in a minute or two a round, and leaves the other figures as they are.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "demo"), str(ROOT), str(ROOT / ".host" / "client")]

import torch  # noqa: E402 - after the path

from bench.pace_parts.demos import DemoRun, first_picture, run_demo  # noqa: E402
from devtools.figures import (  # noqa: E402
    Figure,
    figures_document,
    figures_table,
    read_figures,
    write_figures,
)
from devtools.install import SetupError  # noqa: E402
from devtools.machine import cpu_name  # noqa: E402
from devtools.processes import stop_on_terminate  # noqa: E402

BEFORE = "950c872"
RESULT = ROOT / "bench" / "results" / "pace.json"
Round = dict[str, DemoRun]  # "before" and "after"


def git(*words: str | Path) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"git {words[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def former_tree(work: Path) -> Iterator[Path]:
    """The files of commit BEFORE, gone again at the end."""
    tree = work / "before"
    git("worktree", "add", "--detach", tree, BEFORE)
    try:
        yield tree
    finally:
        git("worktree", "remove", "--force", tree)


def in_turn(number: int, tree: Path) -> list[tuple[str, Path]]:
    """Both trees by name; every other round begins with the other one."""
    return [("before", tree), ("after", ROOT)][:: 1 if number % 2 == 0 else -1]


def one_round(number: int, tree: Path, comfyui: Path, work: Path) -> Round:
    """Both demos."""
    found: Round = {}
    for name, place in in_turn(number, tree):
        print(f"round {number + 1}: the demo {name}", flush=True)
        found[name] = run = run_demo(place, comfyui, work, own=name == "after")
        stages = ", ".join(f"{stage} {spent:.0f}" for stage, spent in run.stages.items())
        print(f"  {run.seconds:.0f} s, of the processor {run.cpu_seconds:.0f} s: {stages}")
        hit, kept = run.target_hit_after["value"], run.retained_ratio["value"]
        print(f"  target still hit {hit:.3f}, kept {kept:.3f}", flush=True)
    return found


def first_pictures(count: int, tree: Path, comfyui: Path, work: Path) -> dict[str, list[float]]:
    """Seconds to the straight graph's first erased picture, of both trees in turn."""
    found: dict[str, list[float]] = {"before": [], "after": []}
    for number in range(count):
        for name, place in in_turn(number, tree):
            found[name].append(first_picture(place, comfyui, work))
            print(f"round {number + 1}, {name}: {found[name][-1]:.1f} s", flush=True)
    return found


def with_first(found: dict[str, list[float]], comfyui: Path) -> dict[str, Any]:
    """The file as it is, with these seconds and what follows from them."""
    document, figures = read_figures(RESULT), first_figures(found["before"], found["after"])
    document["figures"] |= {name: figure.to_dict() for name, figure in figures.items()}
    document["first_pictures"] = {"environment": environment_of(comfyui), **found}
    return document


def first_figures(before: Sequence[float], after: Sequence[float]) -> dict[str, Figure]:
    """Of the seconds to the first erased picture, round by round."""
    return {
        "first_erased_picture_s": Figure(median(after), n=len(after), unit="s"),
        "first_erased_picture_ratio": median_ratio(before, after, "<= 0.6"),
    }


def median_ratio(before: Sequence[float], after: Sequence[float], asked: str | None) -> Figure:
    """The median over rounds of after / before; the interval holds the least and the greatest."""
    found = [late / early for early, late in zip(before, after, strict=True)]
    ends = (min(found), max(found))
    return Figure(median(found), asked, n=len(found), interval=ends, unit="ratio")


def ratio(rounds: Sequence[Round], asked: str | None, part: str) -> Figure:
    """Of a number that each run has."""
    before, after = ([getattr(r[name], part) for r in rounds] for name in ("before", "after"))
    return median_ratio(before, after, asked)


def stage_ratio(rounds: Sequence[Round], stage: str) -> Figure:
    mine = [r for r in rounds if r["before"].stages.get(stage)]
    if not mine:
        return Figure(None, reason=f"the demo before had no stage {stage}")
    before = [r["before"].stages[stage] for r in mine]
    return median_ratio(before, [r["after"].stages.get(stage, 0.0) for r in mine], None)


def worst(rounds: Sequence[Round], name: str, part: str, asked: str | None) -> Figure:
    """The outcome of the round with the worst one."""
    least = part == "retained_ratio"
    outcomes = [getattr(r[name], part) for r in rounds]
    one = (min if least else max)(outcomes, key=lambda outcome: outcome["value"])
    ends = one["interval"]
    interval = None if ends is None else (ends[0], ends[1])
    return Figure(
        one["value"], asked, n=one["n"], interval=interval, unit="ratio" if least else "rate"
    )


def pace_figures(rounds: Sequence[Round]) -> dict[str, Figure]:
    """Ratios with the least and the greatest round as their interval, then the outcomes."""
    stages = dict.fromkeys(stage for r in rounds for run in r.values() for stage in run.stages)
    silences = [r["after"].silence or 0.0 for r in rounds]
    firsts = ([r[name].first_picture_s for r in rounds] for name in ("before", "after"))
    return {
        "demo_time_ratio": ratio(rounds, "<= 0.5", "seconds"),
        "demo_processor_time_ratio": ratio(rounds, None, "cpu_seconds"),
        "demo_target_hit_after": worst(rounds, "after", "target_hit_after", "<= 0.10"),
        "demo_target_hit_after_before": worst(rounds, "before", "target_hit_after", None),
        "demo_retained_ratio": worst(rounds, "after", "retained_ratio", ">= 0.90"),
        "demo_retained_ratio_before": worst(rounds, "before", "retained_ratio", None),
        **first_figures(*firsts),
        "silent_seconds_longest": Figure(max(silences), "<= 10", n=len(rounds), unit="s"),
        **{f"{stage}_time_ratio": stage_ratio(rounds, stage) for stage in stages},
    }


def environment_of(comfyui: Path) -> dict[str, Any]:
    return {
        "cpu": cpu_name(),
        "device": "cpu",
        "torch": torch.__version__,
        "host": comfyui.name,
        "before": BEFORE,
        "after": git("describe", "--always", "--dirty"),
    }


def document_of(rounds: Sequence[Round], comfyui: Path) -> dict[str, Any]:
    command = f"python dev.py bench pace --rounds {len(rounds)}"
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    document = figures_document(
        "pace", command, date, environment_of(comfyui), pace_figures(rounds)
    )
    document["rounds"] = [{name: run.document() for name, run in r.items()} for r in rounds]
    return document


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--first", action="store_true", help="the first erased picture alone")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    stop_on_terminate()
    place = ROOT / ".host" / "work"
    place.mkdir(parents=True, exist_ok=True)
    rounds: list[Round] = []
    try:
        with tempfile.TemporaryDirectory(prefix="pace-", dir=place) as folder:
            work = Path(folder).resolve()
            with former_tree(work) as tree:
                if options.first:
                    parts = options.rounds, tree, options.comfyui.resolve(), work
                    document = with_first(first_pictures(*parts), options.comfyui)
                    write_figures(RESULT, document)
                for number in range(0 if options.first else options.rounds):
                    rounds.append(one_round(number, tree, options.comfyui.resolve(), work))
                    document = document_of(rounds, options.comfyui)
                    write_figures(RESULT, document)
    except SetupError as problem:
        print(f"\nbench pace: {problem}", file=sys.stderr)
        return 1
    print(figures_table(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
