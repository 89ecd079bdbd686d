"""docs/claims.md and the picture, from the figures and the jobs' results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from devtools.figures import shown

from .picture import draw_pareto
from .plan import AGAIN, ATTACK, COUNT, TUNE, Job, every_job
from .settings import (
    APART,
    BASE,
    BLOCKS,
    CONCEPTS,
    LABELS,
    METHODS,
    NEAR,
    SEEDS,
    Budget,
)
from .summary import ENOUGH, RIVALS, Arena, Found, best_attack, kept, method_figures, rate

COLUMNS = {
    "plain": "plain",
    "paraphrases": "paraphrases",
    "heldout": "held-out inversions",
    "attack": "attack",
    "kept": "kept",
    "kept_near": "kept, near",
    "weights_touched": "weights",
    "seconds": "seconds",
}
KIND_WORDS = {"object": "Objects", "style": "Style"}
CLAIM_NUMBERS = {"strength": 2, "diversity": 3, "mask": 4}
ASKED = {"object": 0.05, "style": 0.10}


def write_page(
    path: Path, plots: Path, document: Mapping[str, Any], found: Found, budget: Budget
) -> None:
    """Write the page, and `arena_pareto.png` into the folder `plots`."""
    arenas = {kind: Arena.of(found, kind) for kind in KIND_WORDS}
    panels = {
        f"{KIND_WORDS[kind]} ({runs_of(arena)})": (
            {m: method_figures(arena, m) for m in (BASE, *METHODS)},
            ASKED[kind],
        )
        for kind, arena in arenas.items()
        if arena.runs
    }
    if panels:
        draw_pareto(panels, plots / "arena_pareto.png")
    path.write_text(text(document, found, budget), encoding="utf-8")


def text(document: Mapping[str, Any], found: Found, budget: Budget) -> str:
    """The whole page."""
    arena = Arena.of(found)
    lines = [
        "# The claims and the arena, measured at demo scale",
        "",
        f"Written by `{document['command']}` on {document['date']}; do not edit. Demo model "
        f"(UNet). Compared here: {runs_of(arena) or 'nothing yet'} (concept/seed), of the "
        f"{len(CONCEPTS) * len(SEEDS)} runs of the whole measurement. Intervals are 95 %; they "
        "resample runs, then triggers inside them ([0016](decisions/0016-intervals-by-run.md)), "
        "and for so few runs they are optimistic; a single run has none. A rate holds under these "
        "triggers and attacks, not under all.",
        "",
        *lacking(found),
        "## How",
        "",
        *how(budget),
        "",
        "## The arena",
        "",
        "![Leak under attack against what is kept](images/arena_pareto.png)",
        "",
        *method_table(arena),
        "",
        *winners(found),
        "",
        *kinds(found),
        "## The paper's claims",
        "",
        *verdicts(document["figures"], found),
        "",
        "## What was tried, and what was chosen",
        "",
        *grids(found),
        "",
        *chosen(found),
    ]
    return "\n".join(lines) + "\n"


def runs_of(arena: Arena) -> str:
    return ", ".join(f"{concept}/{seed}" for concept, seed in arena.runs)


def lacking(found: Found) -> list[str]:
    """What is not there yet; nothing when all is."""
    missing = [job for job in every_job() if job not in found]
    if not missing:
        return []
    by_run: dict[str, list[Job]] = {}
    for job in missing:
        by_run.setdefault(f"{job.concept}/{job.seed}", []).append(job)
    whole = len(every_job()) // len(CONCEPTS) // len(SEEDS)
    told = [
        f"- {run}: {'all of it' if len(jobs) == whole else in_words(jobs)}"
        for run, jobs in by_run.items()
    ]
    count = len(every_job())
    return [
        f"**Not there yet: {len(missing)} of {count} jobs.** No method is compared on fewer runs "
        "than the others; one that lacks a run has no figure.",
        "",
        *told,
        "",
    ]


def in_words(jobs: Sequence[Job]) -> str:
    """A run's missing jobs: methods, then the claims, then second attacks."""
    main = dict.fromkeys(LABELS[job.method] for job in jobs if job.part in (TUNE, COUNT, ATTACK))
    claims = [job.part for job in jobs if job.part in CLAIM_NUMBERS]
    again = [LABELS[job.method] for job in jobs if job.part == AGAIN]
    told = [*main, *(f"claim {CLAIM_NUMBERS[part]}" for part in claims)]
    if again:
        told.append("the second attack" + ("" if len(again) > len(METHODS) else " of some"))
    return "; ".join(told)


def how(budget: Budget) -> list[str]:
    """Trained, tuned, attacked and counted how."""
    near = "; ".join(f"{concept}: {', '.join(p for p, _ in NEAR[concept])}" for concept in CONCEPTS)
    return [
        "- **Two task vectors.** *The paper's recipe*: pictures of the concept under empty "
        "captions, noise as the target, nothing retained (arXiv 2404.03631). *Guided* is this "
        "project's ([0015](decisions/0015-guided-targets.md)): captions, a retained set, and a "
        "target at which, under the concept's prompt, base minus vector is ESD's own, with "
        "`guidance` as ESD's factor; it is kin to ESD, not the paper's.",
        "- **Neighbours** by the pack's nodes, whose differences from the authors' codes are in "
        "[fidelity.md](fidelity.md). ESD *noised*: x_t is a noised picture instead of a sample.",
        "- **Tuned alike.** Each method has a small grid of settings (below). The first seed of "
        "the first concept of a kind makes every setting, lets Auto-Strength find its strength, "
        "and keeps the setting that keeps most; other runs take that setting and search their own "
        f"strength. Auto-Strength: plain prompt and {budget.inversions // 2} inversions, "
        f"{budget.trigger_draws} pictures each, must be under {budget.target:.0%} (upper bound) "
        f"while the tuning prompts keep {budget.budget:.0%}; where no strength does both, the "
        "strongest that keeps so much is taken (marked *nearest*). Tuning prompts, triggers and "
        "seeds are never those reported.",
        f"- **Attack.** Adaptive Concept Inversion (arXiv 2308.01508) on the edited model: "
        "two attacks a run, each from another random word of the vocabulary (the second is counted "
        "when every method has it), "
        f"{budget.attack_steps:,} steps of {budget.attack_batch} pictures = {budget.views:,} views "
        f"each at a constant rate, judged on {budget.attack_draws} pictures. Published: 80,000 "
        "views, from a coarse word; this model's text encoder never learned one. An attack that "
        "fails on the base (under half of its pictures) is invalid and counts for no method.",
        "- **Kept**: hits over the unedited model's, of prompts that tuning had and of prompts "
        f"that nothing had, at other seeds. *Near*: prompts near to the concept ({near}).",
        "- **Weights**: share that the edit changes, of the UNet's or, for Few-shot Unlearning, of "
        "the text encoder's. Few-shot is attacked through its own text encoder; any other "
        "CLIP brings the concept back. **Seconds**: of one core, to make the vector, "
        "without pictures and tuning.",
    ]


def method_table(arena: Arena) -> list[str]:
    """One row a method; below it why some have no figures."""
    lines = [
        "| method | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    reasons = []
    for method in (BASE, *METHODS):
        figures = method_figures(arena, method)
        attack = figures["attack"]
        if attack.value is None and arena.lacks(method):
            reasons.append(f"- {LABELS[method]}: {arena.lacks(method)}.")
            continue
        cells = [shown(figures.get(end), 0 if end == "seconds" else 3) for end in COLUMNS]
        if attack.value is None:
            cells[list(COLUMNS).index("attack")] = "invalid"
        star = " *" if method in METHODS and METHODS[method].own else ""
        lines.append(f"| {LABELS[method]}{star} | {' | '.join(cells)} |")
    return [*lines, "", "\\* a candidate of this project.", *(["", *reasons] if reasons else [])]


def winners(found: Found) -> list[str]:
    """Who holds the corner of little leak and much kept."""
    lines = []
    for kind, words in KIND_WORDS.items():
        figure, method = best_attack(found, kind, f"<= {ASKED[kind]}")
        told = figure.reason if method is None else f"{shown(figure)} by {LABELS[method]}"
        lines.append(
            f"- {words}: least leak under attack with {ENOUGH:.0%} or more kept: **{told}** "
            f"(asked: {ASKED[kind]:.0%} or less)."
        )
    return lines


def kinds(found: Found) -> list[str]:
    """The attack and what is kept, by concept, on the runs that are compared."""
    arena = Arena.of(found)
    concepts = list(dict.fromkeys(concept for concept, _ in arena.runs))
    lines = [
        "| method | " + " | ".join(f"{c}: attack | {c}: kept" for c in concepts) + " |",
        "|---" * (2 * len(concepts) + 1) + "|",
    ]
    for method in (BASE, *METHODS):
        if arena.lacks(method):
            continue
        cells = []
        for concept in concepts:
            mine = Arena(found, tuple(run for run in arena.runs if run[0] == concept))
            attacks = mine.attacks(method)
            told = rate(attacks, mine.pictures(attacks)) if attacks else None
            cells.append(shown(told) if told else "invalid")
            cells.append(
                "" if method == BASE else shown(kept(mine, method, ("named", "never_named")))
            )
        lines.append(f"| {LABELS[method]} | {' | '.join(cells)} |")
    return [*lines, ""] if concepts else []


CLAIMS = {
    "claim_robustness": "**Claim 1, robustness.** After the paper's recipe adaptive attacks bring "
    "back less than after ESD-x, ESD-u and UCE (against whichever this is less sure). On digits, "
    "in the paper's own form: [digits.md](digits.md)",
    "claim_strength": "**Claim 2, strength.** On held-out inversions the strength that the plain "
    "prompt and an inversion set ask for leaves less than the one that the plain prompt alone asks "
    "for",
    "claim_diversity": "**Claim 3, diversity.** The strength from inversions held in intervals "
    "leaves less than the one from inversions that are just found",
    "claim_mask": "**Claim 4, blocks.** At equal erasure the first three blocks keep more than the "
    "whole vector",
}


def verdicts(figures: Mapping[str, Any], found: Found) -> list[str]:
    """What holds in the paper's form, and what was counted."""
    lines = []
    for name, claim in CLAIMS.items():
        told = figures[name]
        if told["value"] is None:
            lines.append(f"- {claim}: **not shown** ({told['reason']}).")
            continue
        ends = told.get("interval")
        bounds = f", {ends[0]:+.3f} to {ends[1]:+.3f}" if ends else ", one run: no interval"
        verdict = "holds" if told["met"] else "not shown"
        lines.append(f"- {claim}: **{verdict}** ({told['value']:+.3f}{bounds}).")
    against = [
        f"{LABELS[rival]} {figures[f'claim_robustness_{rival}']['value']:+.3f}"
        for rival in RIVALS
        if figures[f"claim_robustness_{rival}"]["value"] is not None
    ]
    lines += ["", f"Claim 1 by rival: {', '.join(against)}."] if against else []
    return [*lines, *claim_rows(found)]


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
                f"| {job.part} | {job.concept}/{job.seed} | {side} | {result['strength']:g}{mark} "
                f"| {left:.3f} | {stays:.3f} |"
            )
    if not rows:
        return []
    return [
        "",
        "Claims 2 to 4, with the paper's own vector at the least strength that silences the "
        f"triggers, whatever is lost. Diverse: {asked}. Parts: "
        + "; ".join(f"{name}: {', '.join(blocks)}" for name, blocks in BLOCKS.items())
        + ". Left: held-out inversions; kept: hits of the prompts that no tuning had.",
        "",
        "| claim | run | side | strength | left | kept |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


def _share(cells: Sequence[Sequence[int]]) -> float:
    return sum(hits / count for hits, count in cells) / len(cells)


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
    lines = [
        "Setting and strength that were chosen, by run:",
        "",
        "| method | " + " | ".join(f"{concept}/{seed}" for concept, seed in there) + " |",
        "|---" * (len(there) + 1) + "|",
    ]
    for method in begun(found):
        cells = [_choice(found.get(Job(method, *run, TUNE))) for run in there]
        lines.append(f"| {LABELS[method]} | {' | '.join(cells)} |")
    return lines


def _choice(tuned: Mapping[str, Any] | None) -> str:
    if tuned is None:
        return "-"
    mark = "" if tuned["feasible"] else " nearest"
    return f"{tuned['setting']}: {tuned['strength']:g}{mark}"
