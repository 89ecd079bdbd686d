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


class RoundingShare:
    """How much of a difference between two models rounding alone explains, where they are stored
    in formats of unlike precision: the weights of which the finer one, rounded, is the other."""

    def __init__(self) -> None:
        self.whole = self.explained = 0.0
        self._formats: dict[str, str] = {}  # the coarser one, by the pair (base, tuned)

    def add(self, base: Tensor, tuned: Tensor, delta: Tensor) -> None:
        """Weights as stored, floating point of one shape, and tuned - base in float32."""
        self.whole += float(torch.linalg.vector_norm(delta, dtype=torch.float64)) ** 2
        if base.dtype == tuned.dtype:
            return
        coarse, fine = base, tuned
        if torch.finfo(tuned.dtype).eps > torch.finfo(base.dtype).eps:
            coarse, fine = tuned, base
        old, new, coarser = (_name(t.dtype) for t in (base, tuned, coarse))
        self._formats[f"base in {old}, tuned in {new}"] = coarser
        part = delta[fine.to(coarse.dtype).float() == coarse.float()]
        self.explained += float(torch.linalg.vector_norm(part, dtype=torch.float64)) ** 2

    def sentence(self) -> str:
        """What a user should know; nothing where the formats are alike."""
        if not self._formats:
            return ""
        share = math.sqrt(self.explained / self.whole) if self.whole else 0.0
        return (
            f"The models are stored unlike ({'; '.join(self._formats)}): rounding to "
            f"{' and '.join(dict.fromkeys(self._formats.values()))} alone explains {share:.1%} of "
            "this vector's length. Two models of one precision give a vector without it."
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


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
