from __future__ import annotations

import pytest
import torch

from tverase_core.errors import ConfigError
from tverase_core.statistics import (
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
    assert bootstrap_mean([0.25]) == (0.25, 0.25)


def test_ratio_weighs_groups_equally() -> None:
    assert bootstrap_ratio([([1.0, 1.0], [1.0, 1.0]), ([1.0] * 9, [0.0] * 9)]) == (0.5, 0.5)
    low, high = bootstrap_ratio([([1.0] * 100, [1.0] * 80 + [0.0] * 20)]) or (0.0, 0.0)
    assert (low, high) == pytest.approx((0.72, 0.88), abs=0.03)
    assert bootstrap_ratio([([0.0, 1.0], [0.0, 1.0])]) is None
    assert bootstrap_ratio([]) is None


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
