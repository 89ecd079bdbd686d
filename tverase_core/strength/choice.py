"""Settings and result of the strength search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..checks import COUNT, NOT_NEGATIVE, SEEDS, check_settings
from ..errors import ConfigError, TveraseError
from .curve import RateRow, StrengthCurve, StrengthGrid, StrengthRule, TradeOff


class NoFeasibleStrengthError(TveraseError, ValueError):
    """No strength satisfies both the erasure target and the retained budget.

    curve: what was measured; tradeoffs: the strengths that come nearest.
    """

    def __init__(
        self,
        sentence: str,
        curve: StrengthCurve | None = None,
        tradeoffs: Sequence[TradeOff] = (),
    ):
        super().__init__(sentence)
        self.curve, self.tradeoffs = curve, tuple(tradeoffs)


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """Settings of `find_strength`; raises ConfigError with every problem.

    seeds: N tuning seeds a trigger; retained_seeds: seeds a retained prompt.
    block: seeds drawn between two looks; probe: seeds for a pass that only steers.
    at_once: pictures drawn together before the next look, of several triggers side by side.
    guess: first strength tried.
    """

    seeds: tuple[int, ...] = tuple(range(1000, 1024))
    retained_seeds: tuple[int, ...] = tuple(range(2000, 2008))
    grid: StrengthGrid = field(default_factory=StrengthGrid.even)
    rule: StrengthRule = field(default_factory=StrengthRule)
    block: int = 4
    probe: int = 8
    at_once: int = 16
    guess: float = 1.0

    def __post_init__(self) -> None:
        counts = dict.fromkeys(("block", "probe", "at_once"), COUNT)
        rules = {"seeds": SEEDS, "retained_seeds": SEEDS, **counts, "guess": NOT_NEGATIVE}
        check_settings(self, rules)
        if self.rule.most_hits(len(self.seeds)) < 0:
            raise ConfigError(
                f"seeds: {len(self.seeds)} a trigger cannot show a rate under "
                f"{self.rule.target:g} even without a hit; give at least "
                f"{self.rule.least_draws()}"
            )


@dataclass(frozen=True, slots=True)
class Verification:
    """The chosen strength on triggers and seeds that played no part in choosing it.

    The retained prompts did play a part, drawn at other seeds.
    triggers, retained: at `strength`; triggers_base, retained_base: at strength 0, at the
    same seeds, triggers at the first of them only.
    mean_hit: mean of the triggers' rates; worst_high: the largest upper bound (single look, at
    the rule's z); retained_ratio: mean retained rate relative to strength 0.
    passed: worst_high <= target, retained_ratio >= budget, and nothing collapsed.
    """

    strength: float
    seeds: tuple[int, ...]
    triggers: tuple[RateRow, ...]
    triggers_base: tuple[RateRow, ...]
    retained: tuple[RateRow, ...]
    retained_base: tuple[RateRow, ...]
    mean_hit: float
    worst_rate: float
    worst_high: float
    retained_ratio: float
    collapsed: str | None
    passed: bool
    images_drawn: int


@dataclass(frozen=True, slots=True)
class StrengthChoice:
    """The answer, with all that was measured.

    strength: None when not feasible. tuning: every trigger at `strength` (or at the strength that
    came nearest); retained, retained_base: every retained prompt there and at strength 0.
    images_drawn: by this search; full_grid_images: by an equal-precision grid.
    confirmations: strengths that were tested with all seeds.
    """

    strength: float | None
    feasible: bool
    reason: str
    curve: StrengthCurve
    tuning: tuple[RateRow, ...]
    retained: tuple[RateRow, ...]
    retained_base: tuple[RateRow, ...]
    tradeoffs: tuple[TradeOff, ...]
    images_drawn: int
    full_grid_images: int
    confirmations: int
    rule: StrengthRule
    seeds: tuple[int, ...]
    retained_seeds: tuple[int, ...]
    verification: Verification | None = None

    def required(self) -> float:
        """The strength, or NoFeasibleStrengthError carrying curve and trade-offs."""
        if self.strength is None:
            raise NoFeasibleStrengthError(self.reason, self.curve, self.tradeoffs)
        return self.strength
