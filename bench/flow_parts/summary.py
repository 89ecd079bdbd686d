"""From the results of finished tasks to figures.

Intervals draw whole runs (a concept and a seed: one edit), then what was counted inside them. With
few runs they are optimistic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean as mean
from typing import Any

from bench.erasure.bootstrap import bootstrap_cluster_ratio, rate_interval
from bench.flow_parts.attacking import BASE, STYLES
from bench.flow_parts.carrying import DRAWN, PARTS
from bench.flow_parts.edits import EDITS
from devtools.figures import Figure
from tverase_core.judging.statistics import wilson

Run = Mapping[str, Mapping[str, Any]]  # results of one concept and seed by task
KINDS = ("objects", "style")
# Figures of an edit that objects and styles have apart.
APART = ("{}_strength", "{}_left", "{}_kept", "flow_attack_{}", "flow_attack_{}_on_base")


def evidence(runs: Sequence[Run]) -> dict[str, Figure]:
    """Every figure that the finished tasks give."""
    figures: dict[str, Figure] = {}
    for edit in EDITS:
        attacks = [run for run in runs if {f"attack-{BASE}", f"attack-{edit}"} <= run.keys()]
        if attacks:
            figures |= leaks(attacks, edit)
        learned = [run[edit] for run in runs if edit in run]
        if learned:
            figures |= of_edit(learned, edit)
    figures |= drawn([run["drawn"]["drawn"] for run in runs if "drawn" in run])
    figures |= carried([run["parts"] for run in runs if "parts" in run])
    figures |= few_step([run["few_step"] for run in runs if "few_step" in run])
    return figures


def by_kind(runs: Mapping[tuple[str, int], Run]) -> dict[str, Figure]:
    """What tells edits apart, of the runs on objects and of those on styles. runs: by concept and
    seed."""
    figures = {}
    for kind in KINDS:
        found = evidence([run for (concept, _), run in runs.items() if kind_of(concept) == kind])
        names = [name.format(edit) for edit in EDITS for name in APART]
        figures |= {f"{name}_{kind}": found[name] for name in names if name in found}
    return figures


def kind_of(concept: str) -> str:
    return KINDS[concept in STYLES]


def leaks(runs: Sequence[Run], edit: str) -> dict[str, Figure]:
    """The share of an attack's pictures that show the concept, of attacks that work on the base;
    and the base's own share."""
    rates: dict[str, list[list[float]]] = {edit: [], BASE: []}
    invalid = pictures = 0
    for run in runs:
        base, mine = run[f"attack-{BASE}"], run[f"attack-{edit}"]
        counted = [k for k, valid in enumerate(base["valid"]) if valid]
        invalid += len(base["valid"]) - len(counted)
        pictures += len(counted) * base["draws"]
        if counted:
            for side, result in ((edit, mine), (BASE, base)):
                rates[side].append([result["hits"][k] / result["draws"] for k in counted])
    name = f"flow_attack_{edit}"
    if not rates[edit]:
        return {name: Figure(None, reason=f"none of {invalid} attacks works on the base")}
    figures = {
        key: rate(rates[side], pictures) for key, side in ((name, edit), (f"{name}_on_base", BASE))
    }
    figures[f"{name}_invalid"] = Figure(invalid, n=invalid + len(rates[edit]), unit="attacks")
    return figures


def rate(groups: Sequence[Sequence[float]], pictures: int) -> Figure:
    """The mean with its interval over runs; over pictures where there is one run, or where all
    runs agree, which says nothing of their spread."""
    value = mean([r for group in groups for r in group])
    alone = wilson(round(value * pictures), pictures)
    interval = rate_interval(groups, pictures) or tuple(alone)
    return Figure(value, None, pictures, interval, "rate")


def of_edit(results: Sequence[Mapping[str, Any]], edit: str) -> dict[str, Figure]:
    """Least strength, what it leaves of held-out triggers, and what it keeps."""
    counts = [r["counts"] for r in results]
    left = [shares(c["held_out"]) for c in counts]
    figures = {
        f"{edit}_strength": Figure(mean([r["strength"] for r in results]), n=len(results)),
        f"{edit}_left": rate(left, pictures_of(counts, "held_out")),
        f"{edit}_kept": kept([r["base"] for r in results], counts),
    }
    missed = sum(not r["reached"] for r in results)
    return {**figures, f"{edit}_not_reached": Figure(missed, n=len(results), unit="runs")}


def kept(before: Sequence[Any], after: Sequence[Any]) -> Figure:
    """Hits on the reported retained prompts over the unedited model's."""
    sides = [[shares(c["retained"]) for c in counts] for counts in (before, after)]
    pairs = list(zip(*sides, strict=True))
    ratio = sum(sum(b) for _, b in pairs) / sum(sum(a) for a, _ in pairs)
    found = bootstrap_cluster_ratio(pairs) if len(pairs) > 1 else None
    interval = tuple(found) if found else None
    return Figure(ratio, None, pictures_of(after, "retained"), interval, "ratio")


def drawn(results: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Strength by CFG and shift, and how often the base shows the concept there."""
    figures = {}
    for name in DRAWN if results else ():
        cells = [r[name] for r in results]
        base = [shares(c["base"]["tuning"]) for c in cells]
        figures[f"strength_{name}"] = Figure(mean([c["strength"] for c in cells]), n=len(cells))
        figures[f"base_hit_{name}"] = rate(base, pictures_of([c["base"] for c in cells], "tuning"))
        figures[f"kept_{name}"] = kept([c["base"] for c in cells], [c["counts"] for c in cells])
    return figures


def carried(results: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """What is left of held-out triggers with each part alone and without it, at one strength."""
    figures = {}
    for name in PARTS if results else ():
        for label in (f"only_{name}", f"without_{name}"):
            counts = [r["counts"][label] for r in results]
            left = [shares(c["held_out"]) for c in counts]
            figures[f"left_{label}"] = rate(left, pictures_of(counts, "held_out"))
        for measure in ("weights", "length"):
            found = mean([r["parts"][name][measure] for r in results])
            figures[f"{measure}_{name}"] = Figure(found, n=len(results), unit="share")
    alone = [r["parts"]["attention"]["least"] for r in results]
    if alone:
        figures["strength_attention_alone"] = Figure(
            mean([a["strength"] for a in alone]), n=len(alone)
        )
    return figures


def few_step(results: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """On the few-step distillate: held-out triggers that work on it unedited, and what the base's
    strength and its own least one leave and keep."""
    if not results:
        return {}
    base = [r["base"] for r in results]
    held = [shares(c["held_out"]) for c in base]
    figures = {"few_step_base_hit": rate(held, pictures_of(base, "held_out"))}
    least = [r["least"] for r in results]
    for name, made in (("few_step", results), ("few_step_least", least)):
        counts = [r["counts"] for r in made]
        left = [shares(c["held_out"]) for c in counts]
        strength = mean([r["strength"] for r in made])
        figures[f"{name}_strength"] = Figure(strength, n=len(made))
        figures[f"{name}_left"] = rate(left, pictures_of(counts, "held_out"))
        figures[f"{name}_kept"] = kept(base, counts)
    return figures


def shares(cells: Sequence[Sequence[int]]) -> list[float]:
    return [hits / count for hits, count in cells]


def pictures_of(counts: Sequence[Any], group: str) -> int:
    return sum(count for c in counts for _, count in c[group])
