"""What is left of an edit after rounding, in numbers."""

from __future__ import annotations

import pytest
import torch

from tverase_core.vector.rounding import Comparison, RoundingLoss


def test_by_hand() -> None:
    """Meant (3, 4), real (3, 0): 4 of 5 are missing, and the angle has the cosine 3 / 5."""
    total = Comparison()
    total.add(torch.tensor([3.0]), torch.tensor([3.0]))
    total.add(torch.tensor([4.0]), torch.tensor([0.0]))
    found = total.loss()
    assert (found.cosine, found.norm_ratio, found.lost) == pytest.approx((0.6, 0.6, 0.8))
    assert Comparison().loss() == RoundingLoss(1.0, 1.0, 0.0)


def test_a_sample_counts_for_all_of_its_weight() -> None:
    """A large weight that takes the edit, a small one that loses it: lost is the root of the
    small one's share, whatever the sample of the large one is."""
    large, small = torch.zeros(100_000), torch.zeros(1000)
    total = Comparison()
    total.add_sample(large + 1, large, large + 1)
    total.add_sample(small + 1, small, small)
    assert total.loss().lost == pytest.approx((1000 / 101_000) ** 0.5)
