"""From the counts of all seeds to figures, each with its interval over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from devtools.figures import Figure

from ..erasure.bootstrap import bootstrap_cluster_ratio, bootstrap_mean
from .methods import PUBLISHED_STRENGTH

Result = Mapping[str, Any]
TUNED = "tuned"
FIXED = f"{PUBLISHED_STRENGTH:g}"
# What the authors' public result files have for d = 4 and n = 1 to 4, each the mean of two seeds.
PUBLISHED: Mapping[str, Sequence[float]] = {
    "base": (4.5, 5.0, 10.0, 10.0),
    "input_dependent": (1.0, 2.5, 7.0, 6.5),
    "tv_at_1_9": (0.5, 0.0, 1.5, 1.5),
}
PUBLISHED_CONDITIONAL = 3.9  # the strength at which a conditional vector came as low
# Every row of the page: (method, strength).
ROWS: Mapping[str, tuple[str, str]] = {
    "base": ("base", ""),
    "input_dependent": ("input_dependent", "1"),
    "input_dependent_tuned": ("input_dependent", TUNED),
    "tv_at_1_9": ("tv", FIXED),
    "tv": ("tv", TUNED),
    "tv_empty_at_1_9": ("tv_empty", FIXED),
    "tv_empty": ("tv_empty", TUNED),
    "conditional_at_1_9": ("conditional", FIXED),
    "conditional": ("conditional", TUNED),
    **{
        f"{method}{'_tuned' * (at == TUNED)}": (method, at)
        for method in ("esd_x", "esd_u", "uce", "stereo", "prune")
        for at in ("1", TUNED)
    },
}
# Claim 1: an edit that depends on the input leaves more at the worst direction than the vector.
GAPS = (
    ("input_dependent", "tv"),
    ("input_dependent_tuned", "tv"),
    ("esd_x_tuned", "tv"),
    ("esd_u_tuned", "tv"),
)


def counts_of(result: Result, row: str) -> Mapping[str, Any]:
    """What was counted of a seed in that row."""
    method = ROWS[row][0]
    if method == "base":
        found: Mapping[str, Any] = result["base"]
        return found
    of = result["methods"][method]
    counts: Mapping[str, Any] = of["counts"][f"{strength_of(result, row):g}"]
    return counts


def strength_of(result: Result, row: str) -> float:
    """The strength of a row in a seed."""
    method, at = ROWS[row]
    return float(result["methods"][method]["tuned"]["strength"] if at == TUNED else at)


def mean_figure(
    values: Sequence[float], unit: str | None = None, target: str | None = None
) -> Figure:
    """The mean over seeds with its interval; none for a single seed."""
    interval = tuple(bootstrap_mean(values)) if len(values) > 1 else None
    return Figure(sum(values) / len(values), target, len(values), interval, unit)


def worst_figure(results: Sequence[Result], row: str, n: int) -> Figure:
    """Mean over seeds of the worst grid point's count."""
    draws = results[0]["settings"]["draws"]
    return mean_figure([counts_of(r, row)["worst"][n - 1] for r in results], f"of {draws}")


def kept_figure(results: Sequence[Result], row: str) -> Figure:
    """Hits of the other nine digits over the unedited model's."""
    pairs = [(r["base"]["kept"], counts_of(r, row)["kept"]) for r in results]
    before, after = (sum(sum(pair[side]) for pair in pairs) for side in (0, 1))
    found = bootstrap_cluster_ratio(pairs) if len(pairs) > 1 else None
    pictures = sum(len(kept) * results[0]["settings"]["kept_draws"] for kept, _ in pairs)
    return Figure(after / before, None, pictures, tuple(found) if found else None, "ratio")


def gap_figure(results: Sequence[Result], worse: str, better: str, n: int) -> Figure:
    """Mean over seeds of (worse - better), paired; met when the interval is above zero."""
    sides = [[counts_of(r, row)["worst"][n - 1] for r in results] for row in (worse, better)]
    return mean_figure([a - b for a, b in zip(*sides, strict=True)], target="interval > 0")


def digit_figures(results: Sequence[Result]) -> dict[str, Figure]:
    """All figures of the bench."""
    judge = results[0]["judge"]
    own = mean_figure([r["base"]["plain"] / r["settings"]["kept_draws"] for r in results], "rate")
    figures = {
        "judge_accuracy": Figure(judge["accuracy"], None, judge["tested"], unit="rate"),
        "judge_on_base": own,
    }
    largest = len(results[0]["base"]["worst"])
    for row in ROWS:
        for n in range(1, largest + 1):
            figures[f"{row}_worst_n{n}"] = worst_figure(results, row, n)
        figures[f"{row}_attack"] = mean_figure([counts_of(r, row)["attack"] for r in results])
        if row != "base":
            figures[f"{row}_kept"] = kept_figure(results, row)
            figures[f"{row}_strength"] = mean_figure([strength_of(r, row) for r in results])
    for n in range(1, largest + 1):
        for worse, better in GAPS:
            gap = gap_figure(results, worse, better, n)
            figures[f"{worse}_minus_{better}_n{n}"] = gap
    ratios = [strength_of(r, "conditional") / strength_of(r, "tv") for r in results]
    figures["conditional_strength_ratio"] = mean_figure(ratios, "ratio")
    return figures
