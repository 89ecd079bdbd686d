"""Draw the same cases with the base and the erased model and let a judge score both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import JudgeError, NonFiniteError
from ..ports import Context, Judge, Sampler

Role = Literal["target", "retained"]
HIT = 0.5  # a judge's probability from which a picture counts as a hit


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """The judge's probabilities for one seed of one trigger, before and after."""

    role: Role
    concept: str
    trigger: str
    seed: int
    base: float
    erased: float


def draw(sampler: Sampler, context: Context, seeds: Sequence[int]) -> Tensor:
    """One picture per seed from a context of one row; float32 [n, H, W, 3] in 0..1."""
    return sampler.images(context.pick(torch.zeros(len(seeds), dtype=torch.int64)), seeds)


def judged(judge: Judge, pictures: Tensor, concept: str) -> Tensor:
    """The judge's probabilities, float32 [n] on the CPU. Raises NonFiniteError."""
    scores = judge.score(pictures, concept).detach().float().cpu()
    if not bool(torch.isfinite(scores).all()):
        raise NonFiniteError(
            f"The judge gave NaN or infinity for {concept!r}. Look for black or broken pictures."
        )
    return scores


def check_judge(
    sampler: Sampler, judge: Judge, concept: str, context: Context, seeds: Sequence[int]
) -> float:
    """Hit rate of the judge on the base model's own pictures of the plain prompt.

    Raises JudgeError when it never fires: such a judge reads 0 % for every model, erased or not;
    also without seeds, when it is shown nothing. NonFiniteError as `judged`.
    """
    if not seeds:
        raise JudgeError(
            f"This judge cannot be checked on {concept!r}: expected one or more seeds to draw "
            "pictures with, got none. Give seeds."
        )
    scores = judged(judge, draw(sampler, context, seeds), concept)
    hits = float((scores >= HIT).float().mean())
    if hits == 0:
        raise JudgeError(
            f"This judge cannot see the concept {concept!r}: it fired on none of {len(seeds)} "
            f"pictures that the base model drew of it (highest score {float(scores.max()):.2f}, "
            f"needed {HIT}). Check the concept's name, the prompt and the judge. A model that was "
            "erased before it was saved draws the concept no more: load its base and erase that."
        )
    return hits
