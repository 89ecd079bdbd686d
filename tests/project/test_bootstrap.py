"""Intervals over runs, which the benches draw."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from bench.erasure.bootstrap import bootstrap_cluster_ratio, bootstrap_clusters, bootstrap_mean
from tverase_core.errors import ConfigError
from tverase_core.judging.statistics import bootstrap_ratio


def test_bootstrap_is_seeded_and_near_the_normal_interval() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(1)).tolist()
    first = bootstrap_mean(values, seed=2)
    assert first == bootstrap_mean(values, seed=2) != bootstrap_mean(values, seed=3)
    mean = sum(values) / 400
    assert first.high - mean == pytest.approx(1.96 / 20, abs=0.015)
    assert mean - first.low == pytest.approx(1.96 / 20, abs=0.015)
    assert bootstrap_mean([0.25, 0.25]) == (0.25, 0.25)  # no spread to be seen


def by_group(spread: float, groups: int = 12, each: int = 8) -> list[list[float]]:
    """Values with unit noise around their group's own mean."""
    source = torch.Generator().manual_seed(4)
    means = spread * torch.randn(groups, 1, generator=source, dtype=torch.float64)
    found: list[list[float]] = (means + torch.randn(groups, each, generator=source)).tolist()
    return found


def width(ends: tuple[float, float] | None) -> float:
    assert ends is not None
    return ends[1] - ends[0]


def test_groups_that_hang_together_widen_the_interval() -> None:
    """The variance of a mean of g groups of n: spread^2 / g + 1 / (g n), not their sum / (g n)."""
    together, apart = by_group(3.0), by_group(0.0)
    flat = [value for group in together for value in group]
    assert width(bootstrap_clusters(together)) > 2 * width(bootstrap_mean(flat))
    means = torch.tensor(together).mean(1)
    expected = 2 * 1.96 * float(means.std(correction=0)) / math.sqrt(12)
    assert width(bootstrap_clusters(together)) == pytest.approx(expected, rel=0.1)
    flat = [value for group in apart for value in group]
    assert width(bootstrap_clusters(apart)) < 2 * width(bootstrap_mean(flat))
    low, high = bootstrap_clusters(together)
    assert low < float(means.mean()) < high


def test_cluster_intervals_are_seeded_and_weigh_values_alike() -> None:
    groups = [[1.0, 0.0, 0.0], [1.0], [0.0, 0.0]]
    assert bootstrap_clusters(groups, seed=2) == bootstrap_clusters(groups, seed=2)
    assert bootstrap_clusters(by_group(1), seed=2) != bootstrap_clusters(by_group(1), seed=3)
    assert bootstrap_clusters([[0.5], [0.5, 0.5, 0.5]]) == (0.5, 0.5)  # padding adds no zeros
    # two groups, 1 and 9 values: a mean of (1, 9 zeros) is 0.1 unless one group comes twice
    low, high = bootstrap_clusters([[1.0], [0.0] * 9], level=0.4)
    assert (low, high) == pytest.approx((0.1, 0.1))


def test_cluster_ratio_keeps_pairs_and_groups() -> None:
    before = [[0.2, 1.0], [0.6, 0.4, 0.9]]
    halved = [(group, [value / 2 for value in group]) for group in before]
    assert bootstrap_cluster_ratio(halved) == pytest.approx((0.5, 0.5))  # only if pairs are kept
    ones = [1.0] * 10
    differing = [(ones, [0.1 * i] * 10) for i in range(10)]
    alike = [(ones, [0.1 * i for i in range(10)]) for _ in range(10)]
    assert width(bootstrap_cluster_ratio(differing)) > 2 * width(bootstrap_cluster_ratio(alike))
    assert bootstrap_cluster_ratio([([0.0], [1.0]), ([1.0], [1.0])]) is None
    same = [(ones, values) for values in by_group(2.0, 6, 10)]
    ratio = bootstrap_cluster_ratio(same, seed=5)
    assert ratio == bootstrap_clusters([after for _, after in same], seed=5)


def test_one_value_or_group_has_no_interval() -> None:
    with pytest.raises(ConfigError, match="two or more values, got 1"):
        bootstrap_mean([0.3])
    for groups in ([], [[0.3, 0.4]]):
        with pytest.raises(ConfigError, match="two or more groups"):
            bootstrap_clusters(groups)
    with pytest.raises(ConfigError, match="two or more groups"):
        bootstrap_cluster_ratio([([1.0, 1.0], [0.5, 0.25])])


@pytest.mark.parametrize("ratio", [bootstrap_ratio, bootstrap_cluster_ratio])
@pytest.mark.parametrize(
    ("group", "match"),
    [
        (([], []), "one or more finite values"),
        (([1.0, math.nan], [1.0, 1.0]), "one or more finite values"),
        (([1.0, 1.0], [1.0, math.inf]), "one or more finite values"),
        (([1.0, 1.0], [1.0]), "2 before and 1 after"),
        (([1.0], [1.0, 1.0]), "1 before and 2 after"),
    ],
)
def test_broken_pairs_are_refused(ratio: Any, group: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        ratio([([1.0, 1.0], [1.0, 1.0]), group])


def test_broken_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="one or more finite"):
        bootstrap_clusters([[1.0], []])
    with pytest.raises(ConfigError, match="one or more finite"):
        bootstrap_mean([])
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(ConfigError, match="0 < level < 1"):
            bootstrap_mean([1.0, 2.0], level=level)
    with pytest.raises(ConfigError, match="one or more resamples"):
        bootstrap_clusters([[1.0], [2.0]], resamples=0)
