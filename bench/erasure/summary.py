"""From the counts of all jobs to figures, each with n and an interval.

Pictures of one trigger hang together, and so do the triggers of one job, which meet one fitted
vector at one strength. Intervals therefore resample jobs, then triggers inside them, never
pictures. Jobs are few, so these intervals are still optimistic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from devtools.figures import Figure
from erasure.bootstrap import bootstrap_cluster_ratio, bootstrap_clusters, bootstrap_mean
from tverase_core.judging.statistics import wilson

Result = dict[str, Any]


def by_job(results: Iterable[Result], method: str, group: str) -> list[list[float]]:
    """One rate a trigger, in a list for each job."""
    return [[hits / count for hits, count in result["counts"][method][group]] for result in results]


def rates(results: Iterable[Result], method: str, group: str) -> list[float]:
    """One rate a trigger, in a fixed order over the jobs."""
    return [rate for job in by_job(results, method, group) for rate in job]


def pictures(results: Iterable[Result], method: str, group: str) -> int:
    return sum(count for result in results for _, count in result["counts"][method][group])


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def rate_figure(
    results: Sequence[Result], method: str, group: str, target: str | None = None
) -> Figure:
    """Mean over triggers with its interval; none for a single job."""
    n, value = pictures(results, method, group), mean(rates(results, method, group))
    return Figure(value, target, n, clusters(by_job(results, method, group)), "rate")


def ratio_to_base(
    results: Sequence[Result], method: str, group: str, target: str | None = None
) -> Figure:
    """Mean rate over mean rate of the unedited model, prompts resampled in pairs."""
    before, after = by_job(results, "base", group), by_job(results, method, group)
    pairs = list(zip(before, after, strict=True))
    found = bootstrap_cluster_ratio(pairs) if len(pairs) > 1 else None
    value = mean(rates(results, method, group)) / mean(rates(results, "base", group))
    interval = None if found is None else tuple(found)
    return Figure(value, target, pictures(results, method, group), interval, "ratio")


def gap_figure(results: Sequence[Result], worse: str, better: str, group: str) -> Figure:
    """Mean of (worse - better) over triggers that both met; met when the interval is above zero."""
    sides = by_job(results, worse, group), by_job(results, better, group)
    gaps = [
        [a - b for a, b in zip(first, second, strict=True)]
        for first, second in zip(*sides, strict=True)
    ]
    value = mean([gap for job in gaps for gap in job])
    n = pictures(results, worse, group)
    return Figure(value, "interval > 0", n, clusters(gaps), "rate")


def clusters(groups: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """The interval of the mean over jobs and triggers; None for a single job."""
    return tuple(bootstrap_clusters(groups)) if len(groups) > 1 else None


def worst(results: Sequence[Result], method: str, group: str) -> tuple[float, int]:
    """The highest rate of one trigger, and its number of pictures."""
    cells = [cell for result in results for cell in result["counts"][method][group]]
    hits, count = max(cells, key=lambda cell: cell[0] / cell[1])
    return hits / count, count


def claim_figures(results: Sequence[Result]) -> dict[str, Figure]:
    """Every figure of the claims but the timing of inversions."""
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
    # Against whichever of the two the advantage is less sure.
    figures["claim_robustness"] = min(
        robust, key=lambda f: f.interval[0] if f.interval else f.value
    )
    figures["claim_strength"] = gap_figure(results, "plain_alpha", "tv", "held_out")
    figures["claim_diversity"] = gap_figure(results, "alike_alpha", "tv", "held_out")
    shares = [
        choice["images"] / choice["grid_images"]
        for result in results
        for name, choice in result["choices"].items()
        if name == "tv"
    ]
    interval = tuple(bootstrap_mean(shares)) if len(shares) > 1 else None
    figures["strength_images_ratio"] = Figure(
        mean(shares), "<= 0.3333", len(shares), interval, "ratio"
    )
    return figures


def per_job(results: Iterable[Result], row: Callable[[Result], Sequence[object]]) -> list[str]:
    """Markdown table rows."""
    return ["| " + " | ".join(str(cell) for cell in row(result)) + " |" for result in results]
