"""Settings of `ranking.rank_blocks`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class RankingConfig:
    """Settings of `rank_blocks`; raises ConfigError with every problem.

    strength: at which all is measured, > 0. fraction: share of the whole vector's gain that the
    subset must reach, in (0, 1]; it is the shortest prefix of the ranking that does. probes: noised
    latents a measure. seed: of their noise.
    """

    strength: float = 1.0
    fraction: float = 0.8
    probes: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.strength < math.inf:
            problems.append(f"strength: expected a finite number > 0, got {self.strength}")
        if not 0 < self.fraction <= 1:
            problems.append(f"fraction: expected 0 < fraction <= 1, got {self.fraction}")
        if self.probes < 1:
            problems.append(f"probes: expected 1 or more, got {self.probes}")
        if problems:
            raise ConfigError("; ".join(problems))
