"""Means over all values and their intervals by run, which benches share (decision 0016)."""

from __future__ import annotations

from collections.abc import Sequence

from .bootstrap import bootstrap_clusters


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def clusters(groups: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """The interval of the mean over runs and triggers; None for a single run."""
    return tuple(bootstrap_clusters(groups)) if len(groups) > 1 else None
