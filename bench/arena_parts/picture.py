"""Leak against what is kept: the corner that every method wants."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from devtools.figures import Figure

from .settings import BASE, LABELS, METHODS

# Of Okabe and Ito's palette; candidates of this project are stars.
COLOURS = {
    "tv_paper": "#0072B2",
    "tv_guided": "#56B4E9",
    "esd_x": "#D55E00",
    "esd_u": "#E69F00",
    "uce": "#009E73",
    "stereo": "#CC79A7",
    "concept_prune": "#7F7F7F",
    "few_shot": "#B8860B",
    "tv_loop": "#000000",
    "tv_mixed": "#4B0082",
    "tv_mean": "#8B0000",
    "tv_near": "#006400",
    "tv_uce": "#FF1493",
    "tv_uce_rounds": "#C71585",
    "tv_uce_mean": "#1E90FF",
    "tv_uce_mean_rounds": "#00008B",
}
CORNER = 0.95  # kept at least


def draw_pareto(
    panels: Mapping[str, tuple[Mapping[str, Mapping[str, Figure]], float]], path: Path
) -> None:
    """panels: title -> (figures of each method by the end of their names, the leak to stay under).

    On white, so that it reads on light and dark pages alike.
    """
    from matplotlib.figure import Figure as Canvas

    size = 4.6 * len(panels), 5.2
    canvas = Canvas(figsize=size, dpi=110, facecolor="white", layout="constrained")
    every = canvas.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    known: dict[str, object] = {}
    for axes, (title, (methods, asked)) in zip(every, panels.items(), strict=True):
        axes.axvspan(CORNER, 1.1, ymax=1, color="#009E73", alpha=0.05)
        axes.fill_between([CORNER, 1.1], -0.03, asked, color="#009E73", alpha=0.25, linewidth=0)
        for method, figures in methods.items():
            kept, leak = figures.get("kept"), figures["leak"]
            if method == BASE or kept is None or kept.value is None or leak.value is None:
                continue
            known[method] = axes.errorbar(
                kept.value,
                leak.value,
                xerr=_arms(kept),
                yerr=_arms(leak),
                fmt="*" if METHODS[method].own else "o",
                markersize=11 if METHODS[method].own else 7,
                color=COLOURS[method],
                elinewidth=0.8,
                alpha=0.9,
            )
        axes.set(title=title, xlabel="kept, of the unedited model's", ylim=(-0.03, 1.03))
        axes.set_xlim(right=1.08)
    every[0].set_ylabel("leak: the worst of prompts, inversions, attack")
    if known:
        names = [LABELS[method] for method in known]
        place = {"loc": "outside lower center", "ncols": 2 if len(panels) > 1 else 1}
        canvas.legend(known.values(), names, fontsize="small", **place)
    canvas.savefig(path)


def _arms(figure: Figure) -> list[list[float]] | None:
    """The interval as lengths to both sides of the value."""
    if figure.interval is None or figure.value is None:
        return None
    low, high = figure.interval
    return [[max(0.0, figure.value - low)], [max(0.0, high - figure.value)]]
