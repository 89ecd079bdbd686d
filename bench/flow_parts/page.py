"""docs/flow.md: the evidence on the flow demo model, run by run, and what has not been run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean as mean

from bench.erasure.concepts import CONCEPTS, ROOT
from bench.flow_parts.attacking import BASE
from bench.flow_parts.carrying import DRAWN, PARTS
from bench.flow_parts.edits import ATTACKED
from bench.flow_parts.settings import Settings
from bench.flow_parts.summary import APART, KINDS, Run, kept, shares
from devtools.figures import Figure, shown

PAGE = ROOT / "docs" / "flow.md"
NOT_RUN = "not run"
FEW_STEP = """The guided vector of the base on a distillate that draws in four steps at CFG 1.
This command makes it, along the base's own guided paths. It is shown unedited, at the strength that
the base needs, and at the least one that silences the tuning triggers there.
"""
EDITS = {
    "tv": "task vector, guided",
    "esd": "ESD on the attention",
    "tv_paper": "task vector, paper's recipe",
    "rank16": "task vector of rank 16",
}
HEAD = """# Erasing on the flow demo model

Written by `python dev.py bench flow`; do not edit. The model is the pack's second one, a small
transformer trained by flow matching (demo/MODEL_CARD.md). Each edit is learned by the graph
`erase_concept_flow_auto` or by its own method, and used at the least strength at which its tuning
triggers fall silent, found by one search for all. **Left**: share of pictures that still show the
concept under triggers that played no part in that, {held_out} pictures each. **Kept**: hits on
reported prompts of other things, over the unedited model's. **Attack**: Concept Inversion at its
standard budget, {views:,} views, on each edit and on the unedited model; hits of {checks} pictures.
It counts only where it works on the unedited model. Each run has its own seeds. ESD tries two
rates, and the one is taken that erases nearest to strength 1, its own. UCE is not here: it edits
layers that read the text alone, and this transformer has none. "Reduced to x %" holds under these
triggers and this attack, not under all.
"""


def write(
    runs: Mapping[tuple[str, int], Run], settings: Settings, figures: Mapping[str, Figure]
) -> None:
    """runs: results by task of each concept and seed; figures: of all of them."""
    parts = [
        HEAD.format(
            held_out=settings.draws[1],
            views=settings.attack_steps * settings.attack_pictures,
            checks=settings.checks,
        ),
        by_run(runs),
        pooled(figures),
        otherwise(figures),
        by_part(figures),
        few_step(runs),
    ]
    PAGE.write_text("\n".join(part for part in parts if part), "utf-8")


def by_run(runs: Mapping[tuple[str, int], Run]) -> str:
    head = "concept | seed | edit | strength | left | kept | attack | attack on the unedited"
    rows = [
        f"| {concept} | {seed} | {words} | " + " | ".join(of_edit(run, edit)) + " |"
        for (concept, seed), run in runs.items()
        for edit, words in EDITS.items()
        if edit in run
    ]
    asked = {(concept, seed) for concept in CONCEPTS for seed in range(3)}
    needed = {f"attack-{edit}" for edit in ATTACKED}
    done = {key for key, run in runs.items() if needed <= run.keys()}
    lacking = ", ".join(f"{concept} {seed}" for concept, seed in sorted(asked - done))
    missing = f"\nNot attacked yet (concept, seed): {lacking}.\n" if lacking else ""
    return "\n".join(["## Run by run\n", *table(head, rows)]) + "\n" + missing


def of_edit(run: Run, edit: str) -> list[str]:
    """Cells of one edit."""
    made = run[edit]
    counts = made["counts"]
    left = mean(shares(counts["held_out"]))
    stays = kept([made["base"]], [counts])
    attacks = [hits(run, f"attack-{side}") for side in (edit, BASE)]
    strength = f"{made['strength']:.1f}" + ("" if made["reached"] else " (not silent)")
    return [strength, f"{left:.3f}", f"{stays.value:.3f}", *attacks]


def hits(run: Run, task: str) -> str:
    if task not in run:
        return NOT_RUN
    return ", ".join(f"{found} of {run[task]['draws']}" for found in run[task]["hits"])


def pooled(figures: Mapping[str, Figure]) -> str:
    """The runs on objects together, and those on the style."""
    rows = []
    for kind in KINDS:
        for edit, words in EDITS.items():
            strength, *others = (f"{name.format(edit)}_{kind}" for name in APART)
            if strength in figures:
                cells = [shown(figures.get(name), missing=NOT_RUN) for name in others]
                row = (kind, words, str(figures[strength].n), *cells)
                rows.append(f"| {' | '.join(row)} |")
    head = "concepts | edit | runs | left | kept | attack | attack on the unedited"
    note = (
        "Intervals draw whole runs, then pictures inside them; with few runs they are optimistic."
    )
    return "\n".join(["## All runs\n", note + "\n", *table(head, rows)]) + "\n" if rows else ""


def otherwise(figures: Mapping[str, Figure]) -> str:
    """By CFG and shift."""
    rows = [
        f"| {name.replace('_', ' ')} | "
        + " | ".join(shown(figures[f"{what}_{name}"]) for what in ("strength", "base_hit", "kept"))
        + " |"
        for name in DRAWN
        if f"strength_{name}" in figures
    ]
    head = "drawn at | least strength | tuning triggers on the unedited | kept"
    return "\n".join(["## Other CFG, other shift\n", *table(head, rows)]) + "\n" if rows else ""


def by_part(figures: Mapping[str, Figure]) -> str:
    """Which part of the network carries the effect."""
    names = ("weights_{}", "length_{}", "left_only_{}", "left_without_{}")
    rows = [
        f"| {part.replace('_', ' ')} | "
        + " | ".join(shown(figures[name.format(part)]) for name in names)
        + " |"
        for part in PARTS
        if f"weights_{part}" in figures
    ]
    head = "part | of the weights | of the squared length | left with it alone | left without it"
    note = "At the whole vector's strength."
    return (
        "\n".join(["## Which part does it\n", note + "\n", *table(head, rows)]) + "\n"
        if rows
        else ""
    )


def few_step(runs: Mapping[tuple[str, int], Run]) -> str:
    """What the base's vector does on its few-step distillate, run by run."""
    rows = []
    for (concept, seed), run in runs.items():
        if "few_step" not in run:
            continue
        made = run["few_step"]
        base = made["base"]
        edits = [(f"{e['strength']:.1f}", e["counts"]) for e in (made, made["least"])]
        for strength, counts in (("none", base), *edits):
            left = mean(shares(counts["held_out"]))
            stays = kept([base], [counts]).value
            rows.append(f"| {concept} | {seed} | {strength} | {left:.3f} | {stays:.3f} |")
    head = "concept | seed | strength | left | kept"
    told = ["## On a few-step distillate\n", FEW_STEP, *table(head, rows)]
    return "\n".join(told) + "\n" if rows else ""


def table(head: str, rows: Sequence[str]) -> list[str]:
    return [f"| {head} |", "|" + "---|" * (head.count("|") + 1), *rows]
