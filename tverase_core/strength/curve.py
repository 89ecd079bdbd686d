"""Measured effect of the strength, and the rule that picks a strength from it.

Symbols: m strengths, n triggers, p retained prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction

import torch
from torch import Tensor

from ..checks import Rule, between, check_settings
from ..errors import ConfigError, StrengthError
from ..judging.statistics import wilson

Counts = tuple[tuple[int, ...], ...]
MOST_Z = 8.0  # one-sided error 6e-16; from about 8.3 on 1 - error is 1 in float64


@dataclass(frozen=True, slots=True)
class StrengthGrid:
    """The strengths that may be chosen: finite, rising, starting at 0 so that a base row exists."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.values, self.values[1:], strict=False))
        if len(self.values) < 2 or self.values[0] != 0 or not rising:
            raise StrengthError(
                f"strength grid: expected two or more rising values from 0, got {self.values[:5]}"
            )
        if not math.isfinite(self.values[-1]):
            raise StrengthError("strength grid: every value must be finite")

    @classmethod
    def even(cls, step: float = 0.05, maximum: float = 3.0) -> StrengthGrid:
        """0, step, 2 step, ... up to `maximum`. Raises StrengthError unless 0 < step <= maximum."""
        if not 0 < step <= maximum < math.inf:
            raise StrengthError(
                f"strength grid: expected 0 < step <= maximum, got {step} and {maximum}"
            )
        count = math.floor(maximum / step + 1e-9)
        return cls(tuple(round(i * step, 10) for i in range(count + 1)))

    def nearest(self, strength: float) -> int:
        """Index of the value closest to `strength`."""
        return min(range(len(self.values)), key=lambda i: abs(self.values[i] - strength))


@dataclass(frozen=True, slots=True)
class StrengthRule:
    """When a strength is good enough; raises ConfigError with every problem.

    target: the upper Wilson bound of every trigger's hit rate must not exceed this, in (0, 1).
    budget: the retained hit rate must be at least this share of the base's, in 0..1.
    z: normal quantile of the upper bound, 0..8; 1.645 is 95 % one-sided.
    """

    target: float = 0.15
    budget: float = 0.90
    z: float = 1.645

    def __post_init__(self) -> None:
        target = Rule("0 < target < 1", lambda share: 0 < share < 1)
        check_settings(self, {"target": target, "budget": between(0, 1), "z": between(0, MOST_Z)})

    def upper(self, hits: int, draws: int) -> float:
        """Upper bound of a trigger's hit rate; 1 when nothing was drawn."""
        return wilson(hits, draws, self.z).high

    def most_hits(self, draws: int) -> int:
        """The most hits in `draws` pictures that still meet the target; -1 when even 0 do not."""
        hits = -1
        while hits < draws and self.upper(hits + 1, draws) <= self.target:
            hits += 1
        return hits

    def least_draws(self) -> int:
        """The fewest pictures a trigger with which no hit at all meets the target.

        Without a hit the upper bound is z^2 / (n + z^2), hence n >= z^2 (1 / target - 1).
        """
        exact = math.ceil(Fraction(self.z) ** 2 * (1 / Fraction(self.target) - 1))
        near = range(max(1, exact - 1), exact + 1)  # `upper` is rounded: ask it at the border
        if exact > 2**53:
            return exact  # more than `upper` can tell apart
        return next((n for n in near if self.upper(0, n) <= self.target), exact + 1)


@dataclass(frozen=True, slots=True)
class RateRow:
    """A measured rate with its two-sided Wilson interval at the rule's z."""

    index: int
    hits: int
    draws: int
    rate: float
    low: float
    high: float


def rate_row(index: int, hits: int, draws: int, z: float) -> RateRow:
    """hits of draws as a row; draws >= 1."""
    low, high = wilson(hits, draws, z)
    return RateRow(index, hits, draws, hits / draws, low, high)


def rate_rows(hits: Sequence[int], draws: Sequence[int], z: float) -> tuple[RateRow, ...]:
    """One row for every measured cell."""
    cells = enumerate(zip(hits, draws, strict=True))
    return tuple(rate_row(i, h, d, z) for i, (h, d) in cells if d)


@dataclass(frozen=True, slots=True)
class StrengthCurve:
    """Hits and draws by strength. A cell with 0 draws was not measured.

    strengths: rising, [m]; hits, draws: [m][n] by trigger; retained_hits, retained_draws: [m][p];
    collapsed: [m], the guard's reason or None.
    Cells of a sequential search are stopped as soon as their hits decide, so the rate of a trigger
    that was stopped early is biased upward; a cell with the full number of draws is not.
    """

    strengths: tuple[float, ...]
    hits: Counts
    draws: Counts
    retained_hits: Counts
    retained_draws: Counts
    collapsed: tuple[str | None, ...]

    def __post_init__(self) -> None:
        rows = [len(getattr(self, f.name)) for f in fields(self)]
        rising = all(a < b for a, b in zip(self.strengths, self.strengths[1:], strict=False))
        if len(set(rows)) != 1 or not self.strengths or not rising:
            raise ConfigError(
                f"strength curve: expected rising strengths and as many rows of each, got {rows}"
            )

    @property
    def target(self) -> Tensor:
        """Hit rate by trigger, float64 [m, n], NaN where not measured."""
        return _rates(self.hits, self.draws)

    @property
    def retained(self) -> Tensor:
        """Hit rate by retained prompt, float64 [m, p], NaN where not measured."""
        return _rates(self.retained_hits, self.retained_draws)

    def worst(self, row: int, z: float) -> RateRow | None:
        """The measured trigger of the highest rate at strength number `row`."""
        rows = rate_rows(self.hits[row], self.draws[row], z)
        return max(rows, key=lambda r: (r.rate, r.high), default=None)

    def retained_ratio(self, row: int) -> float | None:
        """Mean retained hit rate relative to strength 0; None where either is not measured."""
        if self.strengths[0] != 0 or not all(self.retained_draws[0]):
            return None
        if not all(self.retained_draws[row]):
            return None
        base = float(self.retained[0].mean())
        here = float(self.retained[row].mean())
        return here / base if base > 0 else None


def _rates(hits: Counts, draws: Counts) -> Tensor:
    shape = len(hits), len(hits[0])
    counted = torch.tensor(draws, dtype=torch.float64).reshape(shape)
    return torch.tensor(hits, dtype=torch.float64).reshape(shape) / counted


@dataclass(frozen=True, slots=True)
class TradeOff:
    """What one strength gives: the worst trigger's rate and bound, the retained share."""

    strength: float
    worst_rate: float
    worst_high: float
    retained_ratio: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A strength and why; strength is None when none is feasible."""

    strength: float | None
    feasible: bool
    reason: str


def infeasible(reason: str) -> Choice:
    """No strength, and why."""
    return Choice(None, False, f"no feasible strength: {reason}")


def suppressed_rows(curve: StrengthCurve, rule: StrengthRule) -> list[int]:
    """Strengths at which every trigger meets the target, above all that are ruled out.

    A strength is ruled out when some trigger has more hits than the largest number of draws in
    the curve would allow. Ruling out all below such a strength is deliberate: hit rates fall with
    the strength, so a pass below a failure is luck. Hits in a collapsed strength's broken pictures
    say nothing about weaker ones and rule out none.
    """
    limit = rule.most_hits(max(max(row, default=0) for row in curve.draws))
    most = [max(row, default=0) for row in curve.hits]
    whole = [i for i, reason in enumerate(curve.collapsed) if reason is None]
    first = max((i for i in whole if most[i] > limit), default=-1) + 1
    return [
        i
        for i in range(first, len(curve.strengths))
        if all(
            rule.upper(h, d) <= rule.target
            for h, d in zip(curve.hits[i], curve.draws[i], strict=True)
        )
    ]


def choose_strength(curve: StrengthCurve, rule: StrengthRule) -> Choice:
    """The smallest strength that meets the target, if it also keeps the retained budget.

    A pure function of the measurements. Stronger ones are not tried when the smallest breaks the
    budget, because the retained rate falls with the strength. Our derivation of the rule that the
    abstract of arXiv 2404.03631 describes in words.
    """
    rows = suppressed_rows(curve, rule)
    if not rows:
        return infeasible(
            f"up to {curve.strengths[-1]:g} some trigger's hit rate may exceed {rule.target:g}"
        )
    row = rows[0]
    strength, worst = curve.strengths[row], curve.worst(row, rule.z)
    if curve.collapsed[row] is not None:
        return infeasible(
            f"at {strength:g}, the least that suppresses every trigger, the pictures are broken "
            f"({curve.collapsed[row]})"
        )
    ratio = curve.retained_ratio(row)
    if ratio is None or ratio < rule.budget:
        measured = "an unmeasured share" if ratio is None else f"{ratio:.3f}"
        return infeasible(
            f"{strength:g} is the least that suppresses every trigger, but retained prompts keep "
            f"{measured} of the base rate, under the budget {rule.budget:g}"
        )
    high = worst.high if worst else 1.0
    reason = (
        f"{strength:g} is the least measured strength at which the worst trigger's hit rate is at "
        f"most {high:.3f} (target {rule.target:g}); retained prompts keep {ratio:.3f} of the base "
        f"rate (budget {rule.budget:g})"
    )
    return Choice(strength, True, reason)


def grid_images(
    grid: StrengthGrid, triggers: int, seeds: int, retained: int, retained_seeds: int
) -> int:
    """Pictures that a full grid of the same precision draws: every cell, the same seeds a cell."""
    return len(grid.values) * (triggers * seeds + retained * retained_seeds)
