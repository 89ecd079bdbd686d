"""Intervals for rates, differences and means, and tests that may stop early."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

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

    For rows that are not independent (several seeds of one trigger) give one value per trigger, or
    use `bootstrap_clusters`. Values that are all equal give an interval of no width: resampling
    shows only the spread that is in the values. It says that they did not differ, not that the mean
    is known: 20 rates of 0 may have any small mean. Where they are rates, `wilson` of the pooled
    counts bounds them.
    Raises ConfigError for fewer than two values, from which no spread can be told, for values that
    are not finite, and for resamples or a level out of range.
    """
    numbers = _numbers(values, "A mean's interval")
    if len(numbers) < 2:
        raise ConfigError(
            f"A mean's interval needs two or more values, got {len(numbers)}: one value has no "
            "spread. Measure more, or give the value without an interval."
        )
    source = torch.Generator().manual_seed(seed)
    picks = _drawn(len(numbers), resamples, source)
    return _ends(numbers[picks].mean(1), level)


def bootstrap_ratio(
    groups: Sequence[tuple[Sequence[float], Sequence[float]]],
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval | None:
    """Interval of (mean over groups of after) / (mean over groups of before), paired rows.

    groups: (before, after) values of equal length, one group a concept; rows are resampled inside
    their group, the pair together. None where the mean before can be zero, or without groups.
    A group of one row, or of equal rows, adds no width: see `bootstrap_mean`.
    Raises ConfigError for an empty group, sides of different lengths, values that are not finite,
    and for resamples or a level out of range.
    """
    pairs = _pairs(groups)
    source = torch.Generator().manual_seed(seed)
    before = torch.zeros(_many(resamples), dtype=torch.float64)
    after = torch.zeros_like(before)
    for rows_before, rows_after in pairs:
        picks = _drawn(len(rows_before), resamples, source)
        before += rows_before[picks].mean(1)
        after += rows_after[picks].mean(1)
    return _ratio_ends(before, after, level)


def bootstrap_clusters(
    groups: Sequence[Sequence[float]],
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of the mean of all values, where values of one group hang together.

    groups: the values by group, such as one rate a trigger by the vector that was fitted. Whole
    groups are drawn with replacement, as many as there are, then as many values inside each drawn
    group as it has, with replacement too (A. C. Davison and D. V. Hinkley, Bootstrap Methods and
    Their Application, 1997, section 3.8, hierarchical data; their other strategy keeps a drawn
    group whole, which is a little narrower). Every value weighs the same, so a larger group weighs
    more. With few groups the interval is optimistic: it knows the spread between groups from those
    few alone and has no wider tails for it, as a t interval has. Values that are all equal give no
    width, see `bootstrap_mean`.
    Raises ConfigError for fewer than two groups, an empty one, values that are not finite, and for
    resamples or a level out of range.
    """
    rows = [_numbers(group, f"Group {i}") for i, group in enumerate(groups)]
    sums, counts = _drawn_groups([row[None] for row in rows], seed, resamples)
    return _ends(sums[0] / counts, level)


def bootstrap_cluster_ratio(
    groups: Sequence[tuple[Sequence[float], Sequence[float]]],
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval | None:
    """Percentile interval of (mean of all after) / (mean of all before), drawn by whole groups.

    groups: (before, after) values of equal length by group; a pair stays together. They are drawn
    as in `bootstrap_clusters`, whose limits hold here too. None where the mean before can be zero.
    Raises ConfigError as `bootstrap_clusters`, and for sides of different lengths.
    """
    rows = [torch.stack(pair) for pair in _pairs(groups)]
    sums, _ = _drawn_groups(rows, seed, resamples)
    return _ratio_ends(sums[0], sums[1], level)


def _drawn_groups(rows: Sequence[Tensor], seed: int, resamples: int) -> tuple[Tensor, Tensor]:
    """rows: float64 [k, size] by group -> (sums [k, resamples], values drawn [resamples])."""
    if len(rows) < 2:
        raise ConfigError(
            f"An interval over groups needs two or more groups, got {len(rows)}: one group shows "
            "no spread between groups. Measure more, or take the interval inside the group."
        )
    source = torch.Generator().manual_seed(seed)
    picks = _drawn(len(rows), resamples, source)
    sizes = torch.tensor([row.shape[1] for row in rows])
    longest = int(sizes.max())
    table = torch.stack([functional.pad(row, (0, longest - row.shape[1])) for row in rows], 1)
    sums, counts = torch.zeros(len(table), resamples, dtype=torch.float64), sizes[picks].sum(1)
    for chosen in picks.unbind(1):
        size = sizes[chosen, None]
        places = torch.rand(resamples, longest, generator=source, dtype=torch.float64)
        values = table[:, chosen[:, None], (places * size).long()]  # [k, resamples, longest]
        sums += (values * (torch.arange(longest) < size)).sum(2)  # a shorter group has fewer
    return sums, counts


def _numbers(values: Sequence[float], what: str) -> Tensor:
    """float64 [n], n >= 1, finite."""
    numbers = torch.tensor(list(values), dtype=torch.float64)
    if len(numbers) == 0 or not bool(torch.isfinite(numbers).all()):
        raise ConfigError(f"{what} needs one or more finite values, got {list(values)[:5]}.")
    return numbers


def _pairs(
    groups: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> list[tuple[Tensor, Tensor]]:
    """Both sides of each group, checked."""
    pairs = []
    for i, sides in enumerate(groups):
        before, after = (
            _numbers(side, f"Group {i}, {name},")
            for side, name in zip(sides, ("before", "after"), strict=True)
        )
        if len(before) != len(after):
            raise ConfigError(
                f"Group {i} of a ratio: expected a value after for each before, got {len(before)} "
                f"before and {len(after)} after. Give both sides of the same rows."
            )
        pairs.append((before, after))
    return pairs


def _drawn(count: int, resamples: int, source: torch.Generator) -> Tensor:
    """As many of `count` items as there are, with replacement: int64 [resamples, count]."""
    return torch.randint(count, (_many(resamples), count), generator=source)


def _many(resamples: int) -> int:
    if resamples < 1:
        raise ConfigError(f"A bootstrap needs one or more resamples, got {resamples}.")
    return resamples


def _ends(found: Tensor, level: float) -> Interval:
    """The middle `level` of the resampled figures."""
    if not 0 < level < 1:
        raise ConfigError(f"An interval's level: expected 0 < level < 1, got {level}.")
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.quantile(found, ends).tolist()
    return Interval(low, high)


def _ratio_ends(before: Tensor, after: Tensor, level: float) -> Interval | None:
    return _ends(after / before, level) if bool((before > 0).all()) else None


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
    either way. The test draws its limits from false_above and false_below, which Wald's
    inequalities bound however often one looks: "above" at low_rate comes with a chance of at most
    false_above / (1 - false_below), "below" at high_rate of at most false_below /
    (1 - false_above), and the two chances together are at most false_above + false_below.
    Raises ConfigError unless 0 < low_rate < high_rate < 1, 0 <= hits <= n, and both error chances
    lie above 0 and together below 1.
    """
    if not 0 < low_rate < high_rate < 1 or not 0 <= hits <= n:
        raise ConfigError(
            "A sequential test needs 0 < low_rate < high_rate < 1 and 0 <= hits <= n, got "
            f"{low_rate}, {high_rate}, {hits} of {n}."
        )
    if not (false_above > 0 and false_below > 0 and false_above + false_below < 1):
        raise ConfigError(
            "A sequential test needs error chances above 0 and together below 1, got false_above "
            f"{false_above} and false_below {false_below}."
        )
    evidence = hits * math.log(high_rate / low_rate)
    evidence += (n - hits) * math.log((1 - high_rate) / (1 - low_rate))
    if evidence >= math.log((1 - false_below) / false_above):
        return "above"
    if evidence <= math.log(false_below / (1 - false_above)):
        return "below"
    return "undecided"
