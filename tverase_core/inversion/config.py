"""Settings of the inversion engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..checks import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    TEMPLATE,
    TEMPLATES,
    WORD,
    between,
    check_settings,
    optional,
)
from ..schedule import half_cosine

RANDOM = "random_vocabulary"


@dataclass(frozen=True, slots=True)
class InversionConfig:
    """n embeddings of `vectors` token vectors each. Raises ConfigError that names all problems.

    batch: pictures an inversion sees per step; their noise and timesteps are fixed by its seed.
    chunk: inversions that a forward pass holds at most, draws_at_once: pictures of each, to bound
    memory; None is all.
    diversity: weight of the spread penalty, which acts on cosines among the embeddings above
    `cosine_cap` and below `cosine_floor`.
    intervals: one (low, high) per inversion, the allowed cosine to the concept's own word; the
    norm is then held at the vocabulary's median.
    template: the sentence with one {} that the embeddings are for. sentences: others to be shown
    in training, one drawn for each picture at each step; none: the template. start: RANDOM, or a
    word of one token or of `vectors` whose vectors (with a little seeded noise, so that no two
    start alike) are the start. learning_rate falls to `final_rate` of itself along half a cosine.
    weight_decay: AdamW's, of the embeddings. judged_draws: fixed noise draws that the final losses
    are measured on.
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
    sentences: tuple[str, ...] = ()
    weight_decay: float = 0.0
    draws_at_once: int | None = None
    cosine_floor: float = -1.0

    def __post_init__(self) -> None:
        counts = ("count", "vectors", "steps", "batch", "judged_draws")
        rules = {
            **dict.fromkeys(counts, COUNT),
            "learning_rate": POSITIVE,
            "final_rate": between(0, 1),
            "seed": SEED,
            **dict.fromkeys(("diversity", "weight_decay"), NOT_NEGATIVE),
            **dict.fromkeys(("cosine_cap", "cosine_floor"), between(-1, 1)),
            "template": TEMPLATE,
            "start": WORD,
            **dict.fromkeys(("chunk", "draws_at_once"), optional(COUNT)),
        }
        more = _interval_problems(self.intervals, self.count)
        if self.cosine_floor > self.cosine_cap:
            more.append("cosine_floor must not be above cosine_cap")
        if self.sentences:
            rules["sentences"] = TEMPLATES
        check_settings(self, rules, more, "Inversion settings")

    def rate(self, step: int) -> float:
        """Learning rate of that step, counted from 1."""
        fall = half_cosine(step, self.steps)
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * fall)

    def recipe(self) -> dict[str, Any]:
        """Every setting, ready for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        spans = [list(span) for span in self.intervals] if self.intervals else None
        return {**values, "intervals": spans, "sentences": list(self.sentences)}


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
