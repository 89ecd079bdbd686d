"""docs/claims.md and its plots, from the figures and the jobs' counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devtools.figures import Figure, figures_table
from erasure.counts import ATTACK_STEPS, HELD_OUT_DRAWS, HELD_OUT_FULL
from erasure.summary import (
    Result,
    mean,
    per_job,
    pictures,
    rate_figure,
    rates,
    ratio_to_base,
    worst,
)

METHODS = {"base": "unedited", "tv": "task vector", "esd": "ESD-x", "uce": "UCE"}
GROUPS = {
    "plain": "plain prompt",
    "paraphrases": "paraphrases",
    "held_out": "held-out inversions",
    "attack": "adaptive Concept Inversion",
    "retained": "retained prompts",
}


def write_page(
    path: Path,
    plots: Path,
    document: dict[str, Any],
    figures: dict[str, Figure],
    results: Sequence[Result],
) -> None:
    """Write the page and `claims_methods.png`, `claims_cfg.png` into the folder `plots`."""
    draw_methods(results, plots / "claims_methods.png")
    swept = next((result for result in results if "cfg" in result), None)
    if swept:
        draw_cfg(swept, plots / "claims_cfg.png")
    path.write_text(text(document, figures, results, swept), encoding="utf-8")


def text(
    document: dict[str, Any],
    figures: dict[str, Figure],
    results: Sequence[Result],
    swept: Result | None,
) -> str:
    names = sorted({result["concept"] for result in results})
    lines = [
        "# The claims, measured at demo scale",
        "",
        f"Written by `{document['command']}` on {document['date']}; do not edit. Model: the demo "
        f"model. Concepts: {', '.join(names)}; {len(results)} runs, each with its own "
        "seeds, of the nine that the whole measurement has. Everything is automatic: fine-tune, "
        "Diverse Inversion and Auto-Strength run with the settings of "
        "`workflows/erase_concept_auto.json`, but for the style: it is learned under its "
        "subjects' names, its own prompts and none, at the noisiest two fifths of the noise levels "
        "(`bench/erasure/concepts.py`). ESD-x and UCE run at fixed settings. Strengths are "
        "tuned on one group of triggers, prompts and seeds, and reported on another. Intervals "
        "are 95 %; they resample runs, then triggers inside them, not pictures, and for so few "
        'runs they are still optimistic. "Reduced to x %" holds under these triggers and attacks, '
        "not under all.",
        "",
        *how_to_read(),
        figures_table(document),
        "## By concept",
        "",
        "Held-out inversions were not used for tuning. Worst: the highest rate of one of them. "
        "Kept: hit rate on the reported retained prompts over the unedited model's. The erased "
        f"model is counted on {HELD_OUT_FULL} pictures of each inversion here and in "
        f"`heldout_*`; the unedited one, and every method below, on {HELD_OUT_DRAWS} others.",
        "",
        *concept_table(results),
        "",
        "## How often the concept is still seen, and what is kept",
        "",
        "![Rates by method](images/claims_methods.png)",
        "",
        *method_table(results),
        "",
        *concept_method_table(results),
        "",
        "The attacks see the edit: each searches the edited model itself for an embedding that "
        'brings the concept back. The column "unedited" tells how well the same search does on '
        "the base model.",
        "",
        *verdicts(figures),
        "",
        "The first claim is to be read beside retention, as a share of the unedited model's hits: "
        + ", ".join(
            f"{figures[f'retained_{name}'].value:.3f} ({METHODS[name]})"
            for name in ("tv", "esd", "uce")
        )
        + ". An edit that keeps less has it easier. Ours was tuned for each run; ESD-x and UCE ran "
        "at fixed settings.",
        "",
        *tried(results),
        "## The strengths that were chosen",
        "",
        'A strength marked "nearest" met the retained budget but not the target: no strength '
        "met both. Plain: tuned on the plain prompt alone. Alike: tuned on inversions found "
        "without the diversity term.",
        "",
        "| concept | seed | automatic | plain | alike |",
        "|---|---|---|---|---|",
        *per_job(results, strength_row),
    ]
    if swept:
        lines += ["", *cfg_section(swept)]
    return "\n".join(lines) + "\n"


def how_to_read() -> list[str]:
    """What a reader of the original repositories would want said before the figures."""
    return [
        "The fine-tune is this project's guided recipe (decision 0015), not the paper's: under the "
        "concept's prompt, base minus its vector aims at ESD's own target, with `guidance` as "
        "ESD's factor. The adaptive Concept Inversion is "
        f"{ATTACK_STEPS} steps of the graph's `batch` at a falling rate; the published "
        "one takes 5,000 steps of 16 at a constant one.",
        "",
    ]


def concept_table(results: Sequence[Result]) -> list[str]:
    """Erased and kept, one row a concept."""
    lines = [
        "| concept | unedited | held-out, mean | worst | kept | triggers | pictures each |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(result["concept"] for result in results):
        mine = [result for result in results if result["concept"] == name]
        before = rate_figure(mine, "base", "held_out")
        after = rate_figure(mine, "tv", "held_out_full")
        high, count = worst(mine, "tv", "held_out_full")
        kept = ratio_to_base(mine, "tv", "retained")
        triggers = len(rates(mine, "tv", "held_out_full"))
        cells = [name, shown(before), shown(after), f"{high:.2f}", shown(kept), triggers, count]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def shown(figure: Figure) -> str:
    """A value with its interval."""
    low, high = figure.interval or (float("nan"), float("nan"))
    return f"{figure.value:.3f} ({low:.3f} to {high:.3f})"


def strength_row(result: Result) -> list[object]:
    def shown(name: str) -> str:
        choice = result["choices"][name]
        return f"{choice['strength']:g}" + ("" if choice["feasible"] else " (nearest)")

    names = ("tv", "plain_alpha", "alike_alpha")
    return [result["concept"], result["seed"], *map(shown, names)]


def method_table(results: Sequence[Result]) -> list[str]:
    """Rates with intervals: one row a kind of trigger, one column a method."""
    lines = [
        "| | " + " | ".join(METHODS.values()) + " | pictures each |",
        "|---" * (len(METHODS) + 2) + "|",
    ]
    for group, label in GROUPS.items():
        cells = [shown(rate_figure(results, method, group)) for method in METHODS]
        n = pictures(results, "tv", group)
        lines.append(f"| {label} | " + " | ".join(cells) + f" | {n} |")
    return lines


def concept_method_table(results: Sequence[Result]) -> list[str]:
    """The same rates without intervals, one row a concept and method."""
    labels = list(GROUPS.values())
    lines = [f"| concept | method | {' | '.join(labels)} |", "|---" * (len(labels) + 2) + "|"]
    for name in dict.fromkeys(result["concept"] for result in results):
        mine = [result for result in results if result["concept"] == name]
        for method, label in METHODS.items():
            cells = [f"{mean(rates(mine, method, group)):.3f}" for group in GROUPS]
            lines.append(f"| {name} | {label} | {' | '.join(cells)} |")
    return lines


CLAIMS = {
    "claim_robustness": "Robustness: adaptive attacks bring back less after the task vector than "
    "after the better of ESD-x and UCE",
    "claim_strength": "Strength: the strength from Diverse Inversion leaves less on held-out "
    "triggers than the one from the plain prompt",
    "claim_diversity": "Diversity: the strength from diverse inversions leaves less than the one "
    "from inversions without the diversity term",
}


def verdicts(figures: dict[str, Figure]) -> list[str]:
    lines = []
    for name, claim in CLAIMS.items():
        figure = figures[name]
        low, high = figure.interval or (0.0, 0.0)
        verdict = "holds" if figure.met() else "not shown at this scale"
        lines.append(f"- {claim}: **{verdict}** ({figure.value:+.3f}, {low:+.3f} to {high:+.3f}).")
    return lines


def tried(results: Sequence[Result]) -> list[str]:
    """What is behind the claims that are not shown."""
    asked = [[r["choices"][name]["strength"] for name in ("tv", "plain_alpha")] for r in results]
    same = sum(tuned == plain for tuned, plain in asked)
    return [
        f"Strength and diversity: in {same} of {len(results)} runs the plain prompt alone asks "
        "for the strength that Diverse Inversion asks for, and where it asks for less, that "
        "suppresses the held-out triggers too. When the fine-tune learned noise "
        "([0014](decisions/0014-steps-against-noise.md), nine runs), the strength from Diverse "
        "Inversion left less by 0.026, but a few runs made all of that (0.000 to 0.060); diversity "
        "made no difference either.",
        "",
        "Masks: the automatic graph edits all blocks. Measured subsets, at equal erasure, are in "
        "[masks.md](masks.md): they did as well as the whole with about half of its weights, and "
        "none did better.",
        "",
    ]


def cfg_section(swept: Result) -> list[str]:
    lines = [
        "## Strength and guidance",
        "",
        f"The same vector ({swept['concept']}, seed {swept['seed']}) at other CFG values. Tune at "
        "the CFG you draw with.",
        "",
        "![Strength by CFG](images/claims_cfg.png)",
        "",
        "| CFG | strength | |",
        "|---|---|---|",
    ]
    for cfg, choice in sorted(swept["cfg"].items(), key=lambda item: float(item[0])):
        note = "" if choice["feasible"] else "nearest: target and budget not met together"
        lines.append(f"| {float(cfg):g} | {choice['strength']:g} | {note} |")
    return lines


def draw_methods(results: Sequence[Result], path: Path) -> None:
    """Bars with intervals."""
    from tverase_pack.nodes.pictures.figure import BLUE, GREEN, GREY, ORANGE, new_figure, to_picture

    figure = new_figure(8.0, 3.6)
    axes = figure.add_subplot()
    width = 0.2
    colours = (GREY, BLUE, ORANGE, GREEN)
    for place, (method, colour) in enumerate(zip(METHODS, colours, strict=True)):
        found = [rate_figure(results, method, group) for group in GROUPS]
        means = [figure.value for figure in found]
        ends = [figure.interval or (figure.value, figure.value) for figure in found]
        errors = [
            [m - low for m, (low, _) in zip(means, ends, strict=True)],
            [high - m for m, (_, high) in zip(means, ends, strict=True)],
        ]
        spots = [i + (place - 1.5) * width for i in range(len(GROUPS))]
        axes.bar(spots, means, width, color=colour, label=METHODS[method])
        axes.errorbar(spots, means, errors, fmt="none", ecolor="black", capsize=2, linewidth=0.8)
    axes.set_xticks(range(len(GROUPS)), [label.replace(" ", "\n", 1) for label in GROUPS.values()])
    axes.set_ylabel("share of pictures in which\nthe judge sees the concept")
    axes.set_ylim(0, 1.02)
    axes.legend(ncols=4, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0))
    to_picture(figure).save(path)


def draw_cfg(swept: Result, path: Path) -> None:
    """Chosen strength against CFG."""
    from tverase_pack.nodes.pictures.figure import BLUE, new_figure, to_picture

    points = sorted((float(cfg), choice["strength"]) for cfg, choice in swept["cfg"].items())
    figure = new_figure(5.0, 3.0)
    axes = figure.add_subplot()
    axes.plot(*zip(*points, strict=True), "o-", color=BLUE)
    axes.set_xlabel("CFG")
    axes.set_ylabel("chosen strength")
    axes.set_ylim(bottom=0)
    to_picture(figure).save(path)
