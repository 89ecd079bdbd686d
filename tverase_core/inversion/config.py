"""Settings of the inversion engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..errors import ConfigError
from ..schedule import half_cosine

RANDOM = "random_vocabulary"


@dataclass(frozen=True, slots=True)
class InversionConfig:
    """n embeddings of `vectors` token vectors each. Raises ConfigError that names all problems.

    batch: pictures an inversion sees per step; their noise and timesteps are fixed by its seed.
    chunk: inversions a forward pass holds at most, to bound memory; None is all.
    diversity: weight of the closeness penalty, whose cosines count above `cosine_cap`.
    intervals: one (low, high) per inversion, the allowed cosine to the concept's own word; the
    norm is then held at the vocabulary's median.
    template: a sentence with one {}. start: RANDOM, or a word whose vectors (with a little seeded
    noise, so that no two start alike) are the start. learning_rate falls to `final_rate` of itself
    along half a cosine. judged_draws: fixed noise draws that the final losses are measured on.
    """

    count: int = 10
    vectors: int = 1
    steps: int = 500
    learning_rate: float = 5e-3
    final_rate: float = 1.0
    batch: int = 2
    seed: int = 0
    diversity: float = 0.1
    cosine_cap: float = 0.2
    intervals: tuple[tuple[float, float], ...] | None = None
    template: str = "a {}"
    start: str = RANDOM
    chunk: int | None = None
    judged_draws: int = 32

    def __post_init__(self) -> None:
        counts = {
            name: getattr(self, name)
            for name in ("count", "vectors", "steps", "batch", "judged_draws")
        }
        problems = [
            f"{name} must be 1 or more, got {value}" for name, value in counts.items() if value < 1
        ]
        checks = {
            f"learning_rate must be above 0, got {self.learning_rate}": self.learning_rate > 0,
            f"final_rate must be 0 to 1, got {self.final_rate}": 0 <= self.final_rate <= 1,
            f"seed must be 0 to 2**63 - 1, got {self.seed}": 0 <= self.seed < 2**63,
            f"diversity must be 0 or more, got {self.diversity}": self.diversity >= 0,
            f"cosine_cap must be -1 to 1, got {self.cosine_cap}": -1 <= self.cosine_cap <= 1,
            f"template needs exactly one {{}}, got {self.template!r}": self.template.count("{}")
            == 1,
            "start must not be empty": bool(self.start.strip()),
            f"chunk must be 1 or more, or None, got {self.chunk}": self.chunk is None
            or self.chunk >= 1,
        }
        problems += [sentence for sentence, good in checks.items() if not good]
        problems += _interval_problems(self.intervals, self.count)
        if problems:
            raise ConfigError("Inversion settings: " + "; ".join(problems) + ".")

    def rate(self, step: int) -> float:
        """Learning rate of that step, counted from 1."""
        fall = half_cosine(step, self.steps)
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * fall)

    def recipe(self) -> dict[str, Any]:
        """Every setting, ready for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        spans = [list(span) for span in self.intervals] if self.intervals else None
        return {**values, "intervals": spans}


def _interval_problems(intervals: Sequence[tuple[float, float]] | None, count: int) -> list[str]:
    if intervals is None:
        return []
    problems = [
        f"interval {span} must rise within -1 to 1"
        for span in intervals
        if not -1 <= span[0] <= span[1] <= 1
    ]
    if len(intervals) != count:
        problems.append(f"give one interval per inversion: {len(intervals)} for {count}")
    return problems


def paper_intervals() -> tuple[tuple[float, float], ...]:
    """The ten intervals that label figure 1 of arXiv 2404.03631 v1.

    Nine of width 0.2 from -1.0 to 0.8, and [0.95, 0.98]. That the labels are cosines to the
    concept's own word embedding is our reading.
    """
    nine = tuple((round(-1.0 + 0.2 * k, 1), round(-0.8 + 0.2 * k, 1)) for k in range(9))
    return (*nine, (0.95, 0.98))
