"""What is left of an edit once the edited weights are rounded to the model's number format."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.fingerprint import sampled

LOSS_TO_WARN = 0.1


@dataclass(frozen=True, slots=True)
class RoundingLoss:
    """How the change that weights really take compares with the one that was meant.

    cosine: between the two, -1..1. norm_ratio: length of the real change over the meant one.
    lost: length of their difference over the meant one; 0 is exact.
    """

    cosine: float
    norm_ratio: float
    lost: float

    def sentence(self) -> str:
        return (
            f"rounding to the model's number format changes the edit by {self.lost:.1%} of its "
            f"length (cosine {self.cosine:.4f} with the edit as meant, {self.norm_ratio:.3f} times "
            "as long)"
        )


class Comparison:
    """Adds up meant and real changes one weight at a time; see `RoundingLoss`."""

    def __init__(self) -> None:
        self.meant = self.real = self.both = self.apart = 0.0

    def add(self, meant: Tensor, real: Tensor, weight: float = 1.0) -> None:
        m, r = meant.detach().double().flatten(), real.detach().cpu().double().flatten()
        self.meant += weight * float(m.square().sum())
        self.real += weight * float(r.square().sum())
        self.both += weight * float(torch.dot(m, r))
        self.apart += weight * float((m - r).square().sum())

    def add_sample(self, meant: Tensor, before: Tensor, after: Tensor) -> None:
        """A sample of one weight, counted for all of it: that it goes from `before` to `after`,
        where another change was meant."""
        wanted, old, new = (sampled(t).to("cpu", torch.float32) for t in (meant, before, after))
        self.add(wanted, new - old, meant.numel() / max(1, len(old)))

    def loss(self) -> RoundingLoss:
        if not self.meant:
            return RoundingLoss(1.0, 1.0, 0.0)
        lengths = math.sqrt(self.meant) * math.sqrt(self.real)
        return RoundingLoss(
            self.both / lengths if lengths else 0.0,
            math.sqrt(self.real / self.meant),
            math.sqrt(self.apart / self.meant),
        )
