"""Settings of `block_ranking.rank_blocks`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class RankingConfig:
    """Settings of `rank_blocks`; raises ConfigError with every problem.

    strength: at which all is measured, > 0. fraction: share of the whole vector's gain that the
    subset must reach, in (0, 1]. probes: noised latents a measure. seed: of their noise.
    pick: "fraction" takes the shortest prefix of the ranking that reaches `fraction`;
    "equal_gain" takes, of the prefixes that reach `fraction`, the one that does least damage when
    its strength is raised until it gains as much as the whole (up to `most_raise` times); all
    groups where none saves `least_saving` of the whole's damage, in [0, 1): smaller savings did
    not show in drawn pictures (docs/decisions/0009-all-blocks-when-in-doubt.md).
    """

    strength: float = 1.0
    fraction: float = 0.8
    probes: int = 8
    seed: int = 0
    pick: Literal["fraction", "equal_gain"] = "fraction"
    most_raise: float = 3.0
    least_saving: float = 0.2

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.strength < math.inf:
            problems.append(f"strength: expected a finite number > 0, got {self.strength}")
        if not 0 < self.fraction <= 1:
            problems.append(f"fraction: expected 0 < fraction <= 1, got {self.fraction}")
        if self.probes < 1:
            problems.append(f"probes: expected 1 or more, got {self.probes}")
        if self.pick not in ("fraction", "equal_gain"):
            problems.append(f"pick: expected 'fraction' or 'equal_gain', got {self.pick!r}")
        if not 1 <= self.most_raise < math.inf:
            problems.append(f"most_raise: expected 1 or more, got {self.most_raise}")
        if not 0 <= self.least_saving < 1:
            problems.append(f"least_saving: expected 0 or more, under 1, got {self.least_saving}")
        if problems:
            raise ConfigError("; ".join(problems))
