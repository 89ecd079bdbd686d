"""docs/claims.md and the picture, from the figures and the jobs' results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .page_claims import CLAIM_NUMBERS, verdicts
from .page_tables import (
    ASKED,
    KIND_WORDS,
    chosen,
    grids,
    kinds,
    method_table,
    second_starts,
    winners,
)
from .picture import draw_pareto
from .plan import AGAIN, ATTACK, COUNT, TUNE, Job, every_job
from .settings import BASE, CONCEPTS, LABELS, METHODS, NEAR, SEEDS, Budget
from .summary import Arena, Found, method_figures


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
        "![Leak against what is kept](images/arena_pareto.png)",
        "",
        *method_table(arena),
        "",
        *winners(found),
        "",
        *kinds(found),
        *second_starts(found),
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
        by_run.setdefault(job.run, []).append(job)
    wanted = Counter(job.run for job in every_job())
    told = [
        f"- {run}: {'all of it' if len(jobs) == wanted[run] else in_words(jobs)}"
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
    again = sum(job.part == AGAIN for job in jobs)
    told = [*main, *(f"claim {CLAIM_NUMBERS[part]}" for part in claims)]
    if again:
        told.append("the second attack" + ("" if again > len(METHODS) else " of some"))
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
        "- **Leak**: the highest of the four: plain, paraphrases, held-out inversions, attack. "
        "Whoever attacks may type the plain prompt too.",
        "- **Kept**: hits over the unedited model's, of prompts that tuning had and of prompts "
        f"that nothing had, at other seeds. *Near*: prompts near to the concept ({near}).",
        "- **Weights**: share that the edit changes, of the UNet's or, for Few-shot Unlearning, of "
        "the text encoder's. Few-shot is attacked through its own text encoder; any other "
        "CLIP brings the concept back. **Seconds**: of one core, to make the vector, "
        "without pictures and tuning.",
    ]
