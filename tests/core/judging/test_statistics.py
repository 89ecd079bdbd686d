from __future__ import annotations

import math

import pytest
import torch

from tverase_core.errors import ConfigError
from tverase_core.judging.statistics import bootstrap_ratio, middle, wilson


def test_wilson_known_values() -> None:
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)  # Newcombe 1998, table I
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)  # Newcombe 1998, table I
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert wilson(0, 0) == (0, 1)
    low, high = wilson(20, 20)
    assert (1 - high, 1 - low) == pytest.approx(wilson(0, 20))


def test_ratio_weighs_groups_equally() -> None:
    assert bootstrap_ratio([([1.0, 1.0], [1.0, 1.0]), ([1.0] * 9, [0.0] * 9)]) == (0.5, 0.5)
    low, high = bootstrap_ratio([([1.0] * 100, [1.0] * 80 + [0.0] * 20)]) or (0.0, 0.0)
    assert (low, high) == pytest.approx((0.72, 0.88), abs=0.03)
    before = [0.2, 1.0, 0.6, 0.4]
    halved = [(before, [value / 2 for value in before])]
    assert bootstrap_ratio(halved) == pytest.approx((0.5, 0.5))  # only if pairs are kept
    assert bootstrap_ratio([([0.0, 1.0], [0.0, 1.0])]) is None
    assert bootstrap_ratio([]) is None


def test_the_middle_leaves_as_much_out_at_either_end() -> None:
    assert middle(torch.arange(101.0, dtype=torch.float64), 0.9) == pytest.approx((5.0, 95.0))


def test_a_resampled_interval_is_that_of_its_seed() -> None:
    groups = [([1.0, 0.8, 0.9, 0.7], [0.9, 0.2, 0.5, 0.6])]
    first = bootstrap_ratio(groups, seed=2)
    assert first == bootstrap_ratio(groups, seed=2) != bootstrap_ratio(groups, seed=3)


def test_bad_counts_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 of 2"):
        wilson(3, 2)
    for z in (-1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="0 or more, finite"):
            wilson(1, 2, z)
