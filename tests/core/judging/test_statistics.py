from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tverase_core.errors import ConfigError
from tverase_core.judging.statistics import (
    bootstrap_cluster_ratio,
    bootstrap_clusters,
    bootstrap_mean,
    bootstrap_ratio,
    difference,
    rate_verdict,
    sequential_verdict,
    wilson,
)


def test_wilson_known_values() -> None:
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)  # Newcombe 1998, table I
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)  # Newcombe 1998, table I
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert wilson(0, 0) == (0, 1)
    low, high = wilson(20, 20)
    assert (1 - high, 1 - low) == pytest.approx(wilson(0, 20))


def test_difference_known_values() -> None:
    # Newcombe 1998 (comparison of independent proportions), table II, method 10
    assert difference(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert difference(9, 10, 3, 10) == pytest.approx((0.1705, 0.8090), abs=1e-4)
    assert difference(5, 56, 0, 29) == pytest.approx((-0.0381, 0.1926), abs=1e-4)
    assert difference(0, 0, 1, 3) == (-1, 1)


def test_bootstrap_is_seeded_and_near_the_normal_interval() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(1)).tolist()
    first = bootstrap_mean(values, seed=2)
    assert first == bootstrap_mean(values, seed=2) != bootstrap_mean(values, seed=3)
    mean = sum(values) / 400
    assert first.high - mean == pytest.approx(1.96 / 20, abs=0.015)
    assert mean - first.low == pytest.approx(1.96 / 20, abs=0.015)
    assert bootstrap_mean([0.25, 0.25]) == (0.25, 0.25)  # no spread to be seen


def test_ratio_weighs_groups_equally() -> None:
    assert bootstrap_ratio([([1.0, 1.0], [1.0, 1.0]), ([1.0] * 9, [0.0] * 9)]) == (0.5, 0.5)
    low, high = bootstrap_ratio([([1.0] * 100, [1.0] * 80 + [0.0] * 20)]) or (0.0, 0.0)
    assert (low, high) == pytest.approx((0.72, 0.88), abs=0.03)
    assert bootstrap_ratio([([0.0, 1.0], [0.0, 1.0])]) is None
    assert bootstrap_ratio([]) is None


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


def test_verdicts() -> None:
    assert rate_verdict(0, 20, 0.17) == "below"
    assert rate_verdict(0, 20, 0.16) == "undecided"
    assert rate_verdict(19, 20, 0.5) == "above"


def test_sequential_thresholds_by_hand() -> None:
    # one miss is worth ln(0.8 / 0.95) = -0.1719, one hit ln(4) = 1.386, the bounds are +-2.944
    assert sequential_verdict(0, 17, 0.05, 0.2) == "undecided"
    assert sequential_verdict(0, 18, 0.05, 0.2) == "below"
    assert sequential_verdict(2, 2, 0.05, 0.2) == "undecided"
    assert sequential_verdict(3, 3, 0.05, 0.2) == "above"


def test_sequential_errors_stay_within_their_bounds() -> None:
    source = torch.Generator().manual_seed(0)
    wrong = 0
    for _ in range(200):
        hits = n = 0
        verdict = "undecided"
        for draw in (torch.rand(400, generator=source) < 0.05).tolist():
            hits, n = hits + draw, n + 1
            verdict = sequential_verdict(hits, n, 0.05, 0.2)
            if verdict != "undecided":
                break
        wrong += verdict == "above"
    assert wrong <= 20  # 5 % is allowed, so 10 of 200 on average


def test_bad_counts_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 of 2"):
        wilson(3, 2)
    with pytest.raises(ConfigError):
        bootstrap_mean([])
    with pytest.raises(ConfigError):
        sequential_verdict(0, 1, 0.2, 0.1)


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
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(ConfigError, match="0 < level < 1"):
            bootstrap_mean([1.0, 2.0], level=level)
    with pytest.raises(ConfigError, match="one or more resamples"):
        bootstrap_clusters([[1.0], [2.0]], resamples=0)
    for z in (-1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="0 or more, finite"):
            wilson(1, 2, z)
    for errors in ((0.0, 0.1), (0.1, 0.0), (0.5, 0.5), (math.nan, 0.1)):
        with pytest.raises(ConfigError, match="error chances above 0 and together below 1"):
            sequential_verdict(0, 1, 0.1, 0.2, *errors)
