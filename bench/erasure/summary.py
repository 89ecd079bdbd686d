"""From the counts of all jobs to figures, each with n and an interval.

Rates over several pictures of one trigger are not independent, so intervals resample triggers, not
pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tverase_core.figures import Figure
from tverase_core.statistics import Interval, bootstrap_mean

Result = dict[str, Any]


def rates(results: Iterable[Result], method: str, group: str) -> list[float]:
    """One rate a trigger, in a fixed order over the jobs."""
    return [hits / count for result in results for hits, count in result["counts"][method][group]]


def pictures(results: Iterable[Result], method: str, group: str) -> int:
    return sum(count for result in results for _, count in result["counts"][method][group])


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def rate_figure(
    results: Sequence[Result], method: str, group: str, target: str | None = None
) -> Figure:
    """Mean over triggers with its bootstrap interval."""
    values = rates(results, method, group)
    interval = tuple(bootstrap_mean(values))
    return Figure(mean(values), target, pictures(results, method, group), interval, "rate")


def ratio_to_base(
    results: Sequence[Result], method: str, group: str, target: str | None = None
) -> Figure:
    """Mean rate over mean rate of the unedited model, prompts resampled in pairs."""
    from tverase_core.statistics import bootstrap_ratio

    before, after = rates(results, "base", group), rates(results, method, group)
    found = bootstrap_ratio([(before, after)])
    interval = None if found is None else tuple(found)
    n = pictures(results, method, group)
    return Figure(mean(after) / mean(before), target, n, interval, "ratio")


def gap_figure(
    results: Sequence[Result], worse: str, better: str, group: str, sign: int = 1
) -> Figure:
    """Mean of (worse - better) over triggers that both met; met when the interval is above zero."""
    first, second = rates(results, worse, group), rates(results, better, group)
    gaps = [sign * (a - b) for a, b in zip(first, second, strict=True)]
    interval = tuple(bootstrap_mean(gaps))
    n = pictures(results, worse, group)
    return Figure(mean(gaps), "interval > 0", n, interval, "rate")


def worst(results: Sequence[Result], method: str, group: str) -> tuple[float, int]:
    """The highest rate of one trigger, and its number of pictures."""
    cells = [cell for result in results for cell in result["counts"][method][group]]
    hits, count = max(cells, key=lambda cell: cell[0] / cell[1])
    return hits / count, count


def claim_figures(results: Sequence[Result]) -> dict[str, Figure]:
    """Every figure of the claims but the timing of inversions."""
    from tverase_core.statistics import wilson

    high, count = worst(results, "tv", "held_out_full")
    figures = {
        "heldout_hit_mean": rate_figure(results, "tv", "held_out_full", "<= 0.05"),
        "heldout_hit_worst": Figure(
            high, "<= 0.15", count, tuple(wilson(round(high * count), count)), "rate"
        ),
        "retained_ratio": ratio_to_base(results, "tv", "retained", ">= 0.90"),
    }
    for method in ("tv", "esd", "uce"):
        figures[f"ci_leak_{method}"] = rate_figure(results, method, "attack")
    for method in ("tv", "esd", "uce"):
        figures[f"retained_{method}"] = ratio_to_base(results, method, "retained")
    robust = [gap_figure(results, name, "tv", "attack") for name in ("esd", "uce")]
    figures["claim_robustness"] = min(robust, key=lambda figure: figure.value or 0.0)
    figures["claim_strength"] = gap_figure(results, "plain_alpha", "tv", "held_out")
    figures["claim_diversity"] = gap_figure(results, "alike_alpha", "tv", "held_out")
    figures["claim_mask"] = mask_figure(results)
    shares = [
        choice["images"] / choice["grid_images"]
        for result in results
        for name, choice in result["choices"].items()
        if name == "tv"
    ]
    figures["strength_images_ratio"] = Figure(
        mean(shares), "<= 0.3333", len(shares), tuple(bootstrap_mean(shares)), "ratio"
    )
    return figures


def mask_figure(results: Sequence[Result]) -> Figure:
    """Retained rate with the measured subset minus with the whole UNet, each at its own strength.

    Where the subset is the whole UNet the two are one model and the gap is zero.
    """
    completed = [
        result
        if "whole" in result["counts"]
        else {**result, "counts": {**result["counts"], "whole": result["counts"]["tv"]}}
        for result in results
    ]
    return gap_figure(completed, "tv", "whole", "retained")


def per_job(results: Iterable[Result], row: Callable[[Result], Sequence[object]]) -> list[str]:
    """Markdown table rows."""
    return ["| " + " | ".join(str(cell) for cell in row(result)) + " |" for result in results]


def spread(values: Sequence[float]) -> Interval:
    """Least and greatest."""
    return Interval(min(values), max(values))
