"""The tables of docs/claims.md: what each method leaves and keeps, and how it was tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from devtools.figures import shown

from .plan import AGAIN, ATTACK, TUNE, Job
from .settings import BASE, CONCEPTS, LABELS, METHODS, SEEDS
from .summary import ENOUGH, Arena, Found, Run, best_attack, method_figures

COLUMNS = {
    "plain": "plain",
    "paraphrases": "paraphrases",
    "heldout": "held-out inversions",
    "attack": "attack",
    "leak": "leak",
    "kept": "kept",
    "kept_near": "kept, near",
    "weights_touched": "weights",
    "seconds": "seconds",
}
KIND_WORDS = {"object": "Objects", "style": "Style"}
ASKED = {"object": 0.05, "style": 0.10}


def method_table(arena: Arena) -> list[str]:
    """One row a method; below it why some have no figures."""
    lines = [
        "| method | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    reasons: dict[str, list[str]] = {}
    for method in (BASE, *METHODS):
        figures = method_figures(arena, method)
        attack = figures["attack"]
        if attack.value is None and arena.lacks(method):
            reasons.setdefault(str(arena.lacks(method)), []).append(LABELS[method])
            continue
        cells = [shown(figures.get(end), 0 if end == "seconds" else 3) for end in COLUMNS]
        if attack.value is None:
            for end in ("attack", "leak"):
                cells[list(COLUMNS).index(end)] = "invalid"
        star = " *" if method in METHODS and METHODS[method].own else ""
        lines.append(f"| {LABELS[method]}{star} | {' | '.join(cells)} |")
    told = [f"- {reason}: {'; '.join(methods)}." for reason, methods in reasons.items()]
    return [*lines, "", "\\* a candidate of this project.", *(["", *told] if told else [])]


def winners(found: Found) -> list[str]:
    """Who holds the corner of little leak and much kept."""
    lines = []
    for kind, words in KIND_WORDS.items():
        figure, method = best_attack(found, kind, f"<= {ASKED[kind]}")
        told = figure.reason if method is None else f"{shown(figure)} by {LABELS[method]}"
        lines.append(
            f"- {words}: least leak with {ENOUGH:.0%} or more kept: **{told}** "
            f"(asked: {ASKED[kind]:.0%} or less)."
        )
    return lines


def kinds(found: Found) -> list[str]:
    """Leak and what is kept, by concept, on the runs that are compared."""
    arena = Arena.of(found)
    concepts = list(dict.fromkeys(concept for concept, _ in arena.runs))
    lines = [
        "| method | " + " | ".join(f"{c}: leak | {c}: kept" for c in concepts) + " |",
        "|---" * (2 * len(concepts) + 1) + "|",
    ]
    by_concept = [Arena(found, tuple(run for run in arena.runs if run[0] == c)) for c in concepts]
    for method in (BASE, *METHODS):
        if all(mine.lacks(method) for mine in by_concept):
            continue
        cells = []
        for mine in by_concept:
            if mine.lacks(method):
                cells += ["-", "-"]
                continue
            figures = method_figures(mine, method)
            leak = figures["leak"]
            cells.append("invalid" if leak.value is None else shown(leak))
            cells.append("" if method == BASE else shown(figures["kept"]))
        lines.append(f"| {LABELS[method]} | {' | '.join(cells)} |")
    return [*lines, ""] if concepts else []


def begun(found: Found) -> list[str]:
    """Methods with any result."""
    there = {job.method for job in found}
    return [method for method in METHODS if method in there]


def grids(found: Found) -> list[str]:
    """The settings that each method was tried at."""
    lines = ["| method | settings that were tried |", "|---|---|"]
    for method in begun(found):
        every = "; ".join(
            f"{number}: {', '.join(f'{k} {v}' for k, v in setting.items()) or 'the defaults'}"
            for number, setting in enumerate(METHODS[method].grid)
        )
        lines.append(f"| {LABELS[method]} | {every} |")
    return lines


def chosen(found: Found) -> list[str]:
    """Setting and strength of every run."""
    runs = [(concept, seed) for seed in SEEDS for concept in CONCEPTS]
    there = [r for r in runs if any(Job(m, *r, TUNE) in found for m in METHODS)]
    if not there:
        return []
    rows = {m: [_choice(found.get(Job(m, *run, TUNE))) for run in there] for m in begun(found)}
    return ["Setting and strength that were chosen, by run:", "", *_by_run(there, rows)]


def _by_run(runs: Sequence[Run], rows: Mapping[str, Sequence[str]]) -> list[str]:
    """A table: by method a cell for each run."""
    lines = [
        "| method | " + " | ".join(f"{concept}/{seed}" for concept, seed in runs) + " |",
        "|---" * (len(runs) + 1) + "|",
    ]
    return [*lines, *(f"| {LABELS[m]} | {' | '.join(cells)} |" for m, cells in rows.items())]


def _choice(tuned: Mapping[str, Any] | None) -> str:
    if tuned is None:
        return "-"
    mark = "" if tuned["feasible"] else " nearest"
    return f"{tuned['setting']}: {tuned['strength']:g}{mark}"


def second_starts(found: Found) -> list[str]:
    """Where an attack was made twice: what each start brought back."""
    twice = [job for job in found if job.part == AGAIN]
    runs = sorted({(job.concept, job.seed) for job in twice})
    if not runs:
        return []
    methods = {job.method for job in twice}
    rows = {m: [_both(found, m, run) for run in runs] for m in (BASE, *METHODS) if m in methods}
    told = (
        "Hits of the attack and of the same from a second start, by run; only the first counts "
        "above, until every run has both:"
    )
    return [told, "", *_by_run(runs, rows), ""]


def _both(found: Found, method: str, run: Run) -> str:
    made = [found.get(Job(method, *run, part)) for part in (ATTACK, AGAIN)]
    if None in made:
        return "-"
    hits, draws = [result["hits"] for result in made], made[0]["draws"]
    return f"{hits[0]} and {hits[1]} of {draws}"
