"""What is left of an edit after rounding, in numbers."""

from __future__ import annotations

import pytest
import torch

from tverase_core.vector.rounding import Comparison, RoundingLoss, RoundingShare


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


@pytest.mark.parametrize("finer", ["tuned", "base"])
def test_what_rounding_explains_of_a_difference(finer: str) -> None:
    """1.001 is 1 in bfloat16, whose next value is 1.0078; 1.5 is not."""
    coarse = torch.tensor([1.0, 1.0], dtype=torch.bfloat16)
    fine = torch.tensor([1.001, 1.5])
    base, tuned = (coarse, fine) if finer == "tuned" else (fine, coarse)
    share = RoundingShare()
    share.add(base, tuned, tuned.float() - base.float())
    alone = float(fine[0] - 1)
    assert share.explained == pytest.approx(alone**2)
    assert share.whole == pytest.approx(alone**2 + 0.25)
    assert "rounding to bfloat16 alone explains 0.2% of" in share.sentence()
    pair = ("bfloat16", "float32") if finer == "tuned" else ("float32", "bfloat16")
    assert "base in {}, tuned in {}".format(*pair) in share.sentence()


def test_formats_that_are_alike_explain_nothing() -> None:
    share = RoundingShare()
    share.add(torch.ones(3).half(), torch.ones(3).half(), torch.zeros(3))
    assert share.sentence() == ""
    share.add(torch.ones(2).half(), torch.ones(2).bfloat16(), torch.zeros(2))
    assert "rounding to bfloat16 alone explains 0.0%" in share.sentence()


def test_eight_bits_are_told_too() -> None:
    fine = torch.tensor([1.01, 3.0])
    coarse = fine.to(torch.float8_e4m3fn)
    share = RoundingShare()
    share.add(coarse, fine, fine - coarse.float())
    assert "rounding to float8_e4m3fn alone explains 100.0%" in share.sentence()
