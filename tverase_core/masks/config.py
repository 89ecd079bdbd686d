"""Settings of `ranking.rank_blocks`."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import COUNT, POSITIVE, above, check_settings


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
        check_settings(self, {"strength": POSITIVE, "fraction": above(0, 1), "probes": COUNT})
