"""Intervals for rates, differences and means, and tests that may stop early."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch

from .errors import ConfigError

Z95 = 1.959963984540054  # two-sided 95 %


class Interval(NamedTuple):
    """low <= high, both in the unit of what is estimated."""

    low: float
    high: float


def wilson(hits: int, n: int, z: float = Z95) -> Interval:
    """Score interval of a rate (E. B. Wilson, JASA 22, 1927). n = 0 gives (0, 1).

    z: standard normal quantile, two-sided; 1.645 makes the upper end a one-sided 95 % bound.
    Raises ConfigError unless 0 <= hits <= n.
    """
    if not 0 <= hits <= n:
        raise ConfigError(f"A rate needs 0 <= hits <= n, got {hits} of {n}.")
    if n == 0:
        return Interval(0.0, 1.0)
    rate = hits / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    return Interval(low, 1.0 if hits == n else min(1.0, centre + half))


def difference(hits_a: int, n_a: int, hits_b: int, n_b: int, z: float = Z95) -> Interval:
    """Interval of rate a minus rate b, two independent samples.

    R. G. Newcombe, Statistics in Medicine 17, 1998, method 10 (from two Wilson intervals).
    """
    a, b = wilson(hits_a, n_a, z), wilson(hits_b, n_b, z)
    if n_a == 0 or n_b == 0:
        return Interval(-1.0, 1.0)
    rate_a, rate_b = hits_a / n_a, hits_b / n_b
    gap = rate_a - rate_b
    return Interval(
        gap - math.hypot(rate_a - a.low, b.high - rate_b),
        gap + math.hypot(a.high - rate_a, rate_b - b.low),
    )


def bootstrap_mean(
    values: Sequence[float], seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Percentile bootstrap interval of a mean; equal seeds give equal intervals.

    For rows that are not independent (several seeds of one trigger) give one value per trigger.
    Raises ConfigError for no values or non-finite ones.
    """
    numbers = torch.tensor(values, dtype=torch.float64)
    if len(numbers) == 0 or not bool(torch.isfinite(numbers).all()):
        raise ConfigError(f"A mean needs one or more finite values, got {list(values)[:5]}.")
    source = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(numbers), (resamples, len(numbers)), generator=source)
    means = numbers[picks].mean(1)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.quantile(means, ends).tolist()
    return Interval(low, high)


def bootstrap_ratio(
    groups: Sequence[tuple[Sequence[float], Sequence[float]]],
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval | None:
    """Interval of (mean over groups of after) / (mean over groups of before), paired rows.

    groups: (before, after) values of equal length, one group a concept; rows are resampled inside
    their group, the pair together. None where the mean before can be zero.
    """
    source = torch.Generator().manual_seed(seed)
    before = torch.zeros(resamples, dtype=torch.float64)
    after = torch.zeros_like(before)
    for rows_before, rows_after in groups:
        picks = torch.randint(len(rows_before), (resamples, len(rows_before)), generator=source)
        before += torch.tensor(rows_before, dtype=torch.float64)[picks].mean(1)
        after += torch.tensor(rows_after, dtype=torch.float64)[picks].mean(1)
    if not groups or not bool((before > 0).all()):
        return None
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.quantile(after / before, ends).tolist()
    return Interval(low, high)


Verdict = Literal["below", "above", "undecided"]


def rate_verdict(hits: int, n: int, limit: float, z: float = Z95) -> Verdict:
    """Where a rate lies by its Wilson interval: surely below the limit, surely above, or open.

    Looking again after every picture makes each error likelier than z says: use a larger z for
    many looks (Bonferroni), or `sequential_verdict`.
    """
    low, high = wilson(hits, n, z)
    return "below" if high <= limit else "above" if low > limit else "undecided"


def sequential_verdict(
    hits: int,
    n: int,
    low_rate: float,
    high_rate: float,
    false_above: float = 0.05,
    false_below: float = 0.05,
) -> Verdict:
    """Sequential probability ratio test (A. Wald, 1945); may be asked after every picture.

    "below" accepts the rate `low_rate`, "above" accepts `high_rate`; what lies between may go
    either way. false_above bounds the chance of "above" at low_rate, false_below of "below" at
    high_rate, however often one looks. Raises ConfigError unless 0 < low_rate < high_rate < 1.
    """
    if not 0 < low_rate < high_rate < 1 or not 0 <= hits <= n:
        raise ConfigError(
            "A sequential test needs 0 < low_rate < high_rate < 1 and 0 <= hits <= n, got "
            f"{low_rate}, {high_rate}, {hits} of {n}."
        )
    evidence = hits * math.log(high_rate / low_rate)
    evidence += (n - hits) * math.log((1 - high_rate) / (1 - low_rate))
    if evidence >= math.log((1 - false_below) / false_above):
        return "above"
    if evidence <= math.log(false_below / (1 - false_above)):
        return "below"
    return "undecided"
