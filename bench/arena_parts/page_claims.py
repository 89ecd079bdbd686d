"""The paper's claims on docs/claims.md: what holds in the paper's form, and what was counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from devtools.figures import Figure

from .plan import CLAIMS, every_job
from .settings import APART, BLOCKS, GROUPS, LABELS
from .summary import GAPS, Arena, Found, both_erase, robustness

CLAIM_NUMBERS = {part: number for number, part in enumerate(CLAIMS, 2)}
CLAIM_TEXTS = {
    "claim_robustness": "**Claim 1, robustness.** After the paper's recipe adaptive attacks bring "
    "back less than after ESD-x, ESD-u and UCE (against whichever this is less sure). On digits, "
    "in the paper's own form: [digits.md](digits.md)",
    "claim_strength": "**Claim 2, strength.** On held-out inversions the strength that the plain "
    "prompt and an inversion set ask for leaves less than the one that the plain prompt alone asks "
    "for; concepts of several looks",
    "claim_strength_one_look": "The same with the arena's concepts, whose plain prompt is their "
    "worst trigger",
    "claim_diversity": "**Claim 3, diversity.** The strength from inversions held in intervals "
    "leaves less than the one from inversions that are just found; concepts of several looks",
    "claim_diversity_one_look": "The same with the arena's concepts",
    "claim_mask": "**Claim 4, blocks.** At equal erasure the first three blocks keep more than the "
    "whole vector",
}


def verdicts(figures: Mapping[str, Any], found: Found) -> list[str]:
    """What holds in the paper's form, and what was counted."""
    lines = []
    for name, claim in CLAIM_TEXTS.items():
        told = figures[name]
        if told["value"] is None:
            lines.append(f"- {claim}: **not shown** ({told['reason']}).")
            continue
        ends = told.get("interval")
        bounds = f", {ends[0]:+.3f} to {ends[1]:+.3f}" if ends else ", one run: no interval"
        verdict = "holds" if told["met"] else "not shown"
        lines.append(
            f"- {claim}: **{verdict}** ({told['value']:+.3f}{bounds}{_where(name, found)})."
        )
    return [*lines, *by_rival(found), *claim_rows(found)]


def by_rival(found: Found) -> list[str]:
    """Claim 1 against each rival, on all runs and on those of one kind."""
    told = []
    for words, kind in (("All runs", None), ("objects", "object"), ("style", "style")):
        against = robustness(Arena.of(found, kind))
        signed = [
            f"{LABELS[rival]} {figure.value:+.3f}{_bounds(figure)}"
            for rival, figure in against.items()
            if figure.value is not None
        ]
        told += [f"{words}: {', '.join(signed)}"] if signed else []
    return ["", f"Claim 1 by rival. {'; '.join(told)}."] if told else []


def _bounds(figure: Figure) -> str:
    ends = figure.interval
    return f" ({ends[0]:+.3f} to {ends[1]:+.3f})" if ends else ""


def _where(claim: str, found: Found) -> str:
    """In how many runs there is anything to compare, if not in all."""
    if claim not in GAPS:
        return ""
    usable, runs = both_erase(found, GAPS[claim])
    return "" if len(usable) == runs else f"; both erase in {len(usable)} of {runs} runs"


def claim_rows(found: Found) -> list[str]:
    """Of claims 2 to 4: each side's strength, what is left of held-out inversions, what is kept."""
    asked = (
        f"cosines to the word in [{APART['word_low']:g}, {APART['word_high']:g}], among the "
        f"embeddings in [{APART['cosine_floor']:g}, {APART['cosine_cap']:g}] (weight "
        f"{APART['diversity']:g})"
    )
    rows = []
    for job in every_job():
        if job.part not in CLAIM_NUMBERS or job not in found:
            continue
        for side, result in found[job].items():
            if not isinstance(result, dict) or "held_out" not in result:
                continue
            left, stays = (_share(result[group]) for group in ("held_out", "kept"))
            mark = "" if result["feasible"] else " (does not erase)"
            rows.append(
                f"| {job.part} | {job.run} | {side} | {result['strength']:g}{mark} "
                f"| {left:.3f} | {stays:.3f} |"
            )
    if not rows:
        return []
    return [
        "",
        "Claims 2 to 4, with the paper's own vector at the least strength that silences the "
        f"triggers, whatever is lost. Concepts of several looks: {_looks()}; the prompt names one, "
        "pictures show all, the judge takes any, and each is the named one once. Diverse: "
        f"{asked}. Parts: "
        + "; ".join(f"{name}: {', '.join(blocks)}" for name, blocks in BLOCKS.items())
        + ". Left: held-out inversions; kept: hits of the prompts that no tuning had.",
        "",
        "| claim | run | side | strength | left | kept |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


def _looks() -> str:
    return "; ".join(f"*{group}* are {', '.join(looks)}" for group, looks in GROUPS.items())


def _share(cells: Sequence[Sequence[int]]) -> float:
    return sum(hits / count for hits, count in cells) / len(cells)
