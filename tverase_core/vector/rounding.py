"""What is left of an edit once the edited weights are rounded to the model's number format."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.fingerprint import sampled_runs

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


def rounding_loss(
    plan: Mapping[float, Mapping[str, Tensor]],
    read: Callable[[str], Tensor],
    rounded: Callable[[Tensor, str, torch.dtype], Tensor],
) -> RoundingLoss:
    """Measured on a sample of each weight (`fingerprint.sampled_runs`), counted for all of it.

    plan: deltas by key, grouped by scale (`erase.subtracted`). read: key -> the weight as
    stored. rounded: (float32 values, key, dtype) -> the values as the host would store them.
    """
    total = Comparison()
    for scale, deltas in plan.items():
        for key, delta in deltas.items():
            stored = _sample(read(key))
            before = stored.to("cpu", torch.float32)
            wanted = scale * _sample(delta).float()
            after = rounded(before + wanted, key, stored.dtype).to(torch.float32)
            total.add(wanted, after - before, delta.numel() / max(1, len(before)))
    return total.loss()


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
        wanted, old, new = (_sample(t).to("cpu", torch.float32) for t in (meant, before, after))
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


def _sample(weight: Tensor) -> Tensor:
    """Even runs of the values: they lie in few pages of a mapped file or of untouched memory."""
    flat = weight.detach().reshape(-1)
    runs = [flat[first : first + count] for first, count in sampled_runs(len(flat))]
    # As bytes, because fp8 cannot be concatenated.
    return torch.cat([run.view(torch.uint8) for run in runs]).view(flat.dtype) if runs else flat
