"""Broken pictures: told apart from honest ones by comparison with the base model's own.

An erased model whose pictures are black, flat or noise also silences the judge. Without this
guard such a strength would count as a perfect erasure. Thresholds are our own choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ConfigError, ShapeMismatchError

WHITE_NOISE = 8 / 9  # what is left of white noise's variance after taking off a 3x3 mean


@dataclass(frozen=True, slots=True)
class PictureStatistics:
    """finite: no NaN or infinity; mean: of all values; spread: largest channel's standard
    deviation; roughness: share of the variance that a 3x3 mean takes away, 0 for a flat picture."""

    finite: bool
    mean: float
    spread: float
    roughness: float


def picture_statistics(images: Tensor) -> list[PictureStatistics]:
    """images: float [n, H, W, 3] in 0..1 -> one row each. Raises ShapeMismatchError."""
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ShapeMismatchError(
            f"pictures: expected [n, H, W, 3], got {tuple(images.shape)}", got=images.shape
        )
    rows = []
    for image in images.detach().to("cpu", torch.float64):
        if not bool(image.isfinite().all()):
            rows.append(PictureStatistics(False, math.nan, math.nan, math.nan))
            continue
        planes = image.permute(2, 0, 1)
        variance = planes.var(dim=(1, 2), unbiased=False)
        padded = functional.pad(planes.unsqueeze(1), (1, 1, 1, 1), mode="replicate")
        fine = planes - functional.avg_pool2d(padded, 3, 1).squeeze(1)
        total = float(variance.sum())
        roughness = float((fine**2).mean(dim=(1, 2)).sum()) / total if total > 1e-12 else 0.0
        spread = float(variance.max().sqrt())
        rows.append(PictureStatistics(True, float(image.mean()), spread, roughness))
    return rows


@dataclass(frozen=True, slots=True)
class CollapseGuard:
    """Limits taken from base pictures.

    flat: a spread under this is a constant picture; least_spread: under this the variance has
    vanished; most_roughness: over this the picture is noise.
    """

    flat: float
    least_spread: float
    most_roughness: float

    @classmethod
    def from_statistics(cls, base: Sequence[PictureStatistics]) -> CollapseGuard:
        """Limits from base rows: a quarter of the least spread; roughness four times the base's
        highest, but never beyond half-way to white noise. Raises ConfigError without usable rows.
        """
        usable = [row for row in base if row.finite and row.spread > 0]
        if not usable:
            raise ConfigError(
                "collapse guard: every base picture is flat or not finite; the base model or its "
                "sampler settings are already broken"
            )
        least = min(row.spread for row in usable)
        roughest = max(row.roughness for row in usable)
        limit = max(0.05, min(4 * roughest, (roughest + WHITE_NOISE) / 2))
        return cls(min(0.004, least / 10), least / 4, max(limit, roughest))

    @classmethod
    def fit(cls, images: Tensor) -> CollapseGuard:
        """Limits from base pictures, float [n, H, W, 3] in 0..1, n >= 1."""
        return cls.from_statistics(picture_statistics(images))

    def reason(self, row: PictureStatistics) -> str | None:
        """Why a picture counts as broken, or None."""
        if not row.finite:
            return "not finite"
        if row.spread <= self.flat:
            return "black" if row.mean < 0.02 else "constant"
        if row.spread < self.least_spread:
            return "vanishing variance"
        if row.roughness > self.most_roughness:
            return "noise"
        return None

    def judge(self, images: Tensor) -> list[str | None]:
        """images: float [n, H, W, 3] -> a reason or None each."""
        return [self.reason(row) for row in picture_statistics(images)]


def collapse_reason(reasons: Sequence[str | None], share: float) -> str | None:
    """One sentence when more than `share` of the pictures are broken, else None."""
    broken = [reason for reason in reasons if reason is not None]
    if not reasons or len(broken) <= share * len(reasons):
        return None
    names = ", ".join(sorted(set(broken)))
    return f"{len(broken)} of {len(reasons)} retained pictures are broken: {names}"


def any_not_finite(rows: Sequence[PictureStatistics]) -> bool:
    """True when some picture holds NaN or infinity."""
    return any(not row.finite for row in rows)
