"""Percentile intervals of means and ratios over runs, for the benches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tverase_core.errors import ConfigError
from tverase_core.judging.statistics import (
    Interval,
    finite_values,
    middle,
    paired_values,
    ratio_interval,
    resampled,
    wilson,
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
    numbers = finite_values(values, "A mean's interval")
    if len(numbers) < 2:
        raise ConfigError(
            f"A mean's interval needs two or more values, got {len(numbers)}: one value has no "
            "spread. Measure more, or give the value without an interval."
        )
    source = torch.Generator().manual_seed(seed)
    picks = resampled(len(numbers), resamples, source)
    return middle(numbers[picks].mean(1), level)


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
    rows = [finite_values(group, f"Group {i}") for i, group in enumerate(groups)]
    sums, counts = _drawn_groups([row[None] for row in rows], seed, resamples)
    return middle(sums[0] / counts, level)


def clusters(groups: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """The interval of the mean over runs and triggers; None for a single run."""
    return tuple(bootstrap_clusters(groups)) if len(groups) > 1 else None


def rate_interval(groups: Sequence[Sequence[float]], pictures: int) -> tuple[float, float] | None:
    """`clusters`; Wilson's over the pictures, as if they were independent, where all rates are
    alike, which says nothing of their spread."""
    found = clusters(groups)
    if found is None or found[0] < found[1]:
        return found
    return tuple(wilson(round(found[0] * pictures), pictures))


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
    rows = [torch.stack(pair) for pair in paired_values(groups)]
    sums, _ = _drawn_groups(rows, seed, resamples)
    return ratio_interval(sums[0], sums[1], level)


def _drawn_groups(rows: Sequence[Tensor], seed: int, resamples: int) -> tuple[Tensor, Tensor]:
    """rows: float64 [k, size] by group -> (sums [k, resamples], values drawn [resamples])."""
    if len(rows) < 2:
        raise ConfigError(
            f"An interval over groups needs two or more groups, got {len(rows)}: one group shows "
            "no spread between groups. Measure more, or take the interval inside the group."
        )
    source = torch.Generator().manual_seed(seed)
    picks = resampled(len(rows), resamples, source)
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
