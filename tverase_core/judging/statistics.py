"""Intervals for rates, and for ratios of means by resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError

Z95 = 1.959963984540054  # two-sided 95 %


class Interval(NamedTuple):
    """low <= high, both in the unit of what is estimated."""

    low: float
    high: float


def wilson(hits: int, n: int, z: float = Z95) -> Interval:
    """Score interval of a rate (E. B. Wilson, JASA 22, 1927). n = 0 gives (0, 1).

    z: standard normal quantile >= 0, two-sided; 1.645 makes the upper end a one-sided 95 % bound.
    Raises ConfigError unless 0 <= hits <= n and z is finite and not negative.
    """
    if not 0 <= z < math.inf:
        raise ConfigError(f"The z of a rate's interval: expected 0 or more, finite, got {z}.")
    if not 0 <= hits <= n:
        raise ConfigError(f"A rate needs 0 <= hits <= n, got {hits} of {n}.")
    if n == 0:
        return Interval(0.0, 1.0)
    rate = hits / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    return Interval(low, 1.0 if hits == n else min(1.0, centre + half))


def bootstrap_ratio(
    groups: Sequence[tuple[Sequence[float], Sequence[float]]],
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval | None:
    """Interval of (mean over groups of after) / (mean over groups of before), paired rows.

    groups: (before, after) values of equal length, one group a concept; rows are resampled inside
    their group, the pair together. None where the mean before can be zero, or without groups.
    A group of one row, or of equal rows, adds no width: resampling shows only the spread that is
    in the values, so it says that they did not differ, not that the mean is known.
    Raises ConfigError for an empty group, sides of different lengths, values that are not finite,
    and for resamples or a level out of range.
    """
    pairs = paired_values(groups)
    source = torch.Generator().manual_seed(seed)
    before = torch.zeros(_many(resamples), dtype=torch.float64)
    after = torch.zeros_like(before)
    for rows_before, rows_after in pairs:
        picks = resampled(len(rows_before), resamples, source)
        before += rows_before[picks].mean(1)
        after += rows_after[picks].mean(1)
    return ratio_interval(before, after, level)


def finite_values(values: Sequence[float], what: str) -> Tensor:
    """float64 [n], n >= 1, finite."""
    numbers = torch.tensor(list(values), dtype=torch.float64)
    if len(numbers) == 0 or not bool(torch.isfinite(numbers).all()):
        raise ConfigError(f"{what} needs one or more finite values, got {list(values)[:5]}.")
    return numbers


def paired_values(
    groups: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> list[tuple[Tensor, Tensor]]:
    """Both sides of each group, checked."""
    pairs = []
    for i, sides in enumerate(groups):
        before, after = (
            finite_values(side, f"Group {i}, {name},")
            for side, name in zip(sides, ("before", "after"), strict=True)
        )
        if len(before) != len(after):
            raise ConfigError(
                f"Group {i} of a ratio: expected a value after for each before, got {len(before)} "
                f"before and {len(after)} after. Give both sides of the same rows."
            )
        pairs.append((before, after))
    return pairs


def resampled(count: int, resamples: int, source: torch.Generator) -> Tensor:
    """As many of `count` items as there are, with replacement: int64 [resamples, count]."""
    return torch.randint(count, (_many(resamples), count), generator=source)


def _many(resamples: int) -> int:
    if resamples < 1:
        raise ConfigError(f"A bootstrap needs one or more resamples, got {resamples}.")
    return resamples


def middle(found: Tensor, level: float) -> Interval:
    """The middle `level` of the resampled figures."""
    if not 0 < level < 1:
        raise ConfigError(f"An interval's level: expected 0 < level < 1, got {level}.")
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.quantile(found, ends).tolist()
    return Interval(low, high)


def ratio_interval(before: Tensor, after: Tensor, level: float) -> Interval | None:
    """The middle `level` of after / before, by resample; None where a `before` is zero."""
    return middle(after / before, level) if bool((before > 0).all()) else None
