"""The settings of a concept fine-tune, the paper's recipe by default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..checks import COUNT, SEED, Rule, above, below, between, check_settings, one_of, optional
from ..schedule import Schedule, half_cosine, logit_normal

Trainable = Callable[[str], bool]
Optimizer = Literal["adamw", "adamw8bit"]
RateSchedule = Literal["constant", "cosine"]
NoiseSampling = Literal["uniform", "logit_normal"]


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """The paper's recipe by default. Raises ConfigError that names every bad setting.

    batch_size pictures a step, shown in `accumulation` equal parts, so memory is that of
    batch_size / accumulation pictures. Weight decay acts on the delta: it pulls towards the base
    weights, where AdamW on the weights themselves (the paper) pulls them to zero. At the default
    rates either moves a weight by less than 2e-5 of its size; ours adds nothing to the vector that
    is not about the concept. optimizer: "adamw8bit" needs one made by the host. rank: train a delta
    of that rank in each matrix or flattened convolution instead of a full one; biases and norms
    then stay as they are (our addition).
    trainable: which weights may move, by key; None is all of them.
    retained_weight, retained_strength: of the second loss where a retained set is given; it keeps
    what the denoiser predicts at subtracted strengths from 0 to retained_strength (retention.py).
    least_noise: share of the timesteps, from the clean end, that is left out. What is learned
    there is fine detail that pictures of anything share (our addition).
    noise_sampling: how the timesteps of the rest are drawn, "uniform" (the paper) or
    "logit_normal" (schedule.py), as flow-matching models are usually trained.
    rate_schedule: "constant", or "cosine": the rate falls from learning_rate to almost zero along
    half a cosine (schedule.py; not in the paper).
    guidance: 0 learns the noise that was added (the paper). Above 0 learns what the base itself
    predicts under guidance of that strength (guided_target.py; our addition); the concept set must
    then say what names the concept.
    """

    steps: int = 200
    batch_size: int = 16
    accumulation: int = 4
    learning_rate: float = 1e-5
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    gradient_clip: float = 1.0
    seed: int = 0
    flip: bool = True
    ema: bool = True
    optimizer: Optimizer = "adamw"
    rank: int | None = None
    trainable: Trainable | None = field(default=None, compare=False)
    retained_weight: float = 0.3
    retained_strength: float = 2.0
    least_noise: float = 0.0
    rate_schedule: RateSchedule = "constant"
    guidance: float = 0.0
    noise_sampling: NoiseSampling = "uniform"

    def __post_init__(self) -> None:
        whole = self.accumulation >= 1 and self.batch_size % self.accumulation == 0
        uneven = f"accumulation must divide batch_size, got {self.accumulation} for "
        rules = {
            "steps": COUNT,
            "batch_size": COUNT,
            "learning_rate": Rule("more than 0 and less than 10", lambda rate: 0 < rate < 10),
            "weight_decay": between(0, 1),
            "betas": Rule(
                "two numbers in [0, 1)",
                lambda betas: len(betas) == 2 and all(0 <= beta < 1 for beta in betas),
            ),
            "gradient_clip": Rule("more than 0", lambda limit: limit > 0),
            "seed": SEED,
            "optimizer": one_of(*get_args(Optimizer)),
            "rate_schedule": one_of(*get_args(RateSchedule)),
            "noise_sampling": one_of(*get_args(NoiseSampling)),
            "rank": optional(COUNT),
            "retained_weight": between(0, 1000),
            "retained_strength": above(0, 100),
            "guidance": between(0, 100),
            "least_noise": below(0, 1),
        }
        more = [] if whole else [uneven + str(self.batch_size)]
        check_settings(self, rules, more, "Fine-tune settings")

    def allows(self, key: str, axes: int) -> bool:
        """Whether the weight of that key and number of axes is trained."""
        return (self.trainable is None or self.trainable(key)) and (self.rank is None or axes >= 2)

    def rate(self, step: int) -> float:
        """Learning rate of that step, counted from 1."""
        if self.rate_schedule == "constant":
            return self.learning_rate
        return self.learning_rate * half_cosine(step, self.steps)

    def timesteps(self, count: int, schedule: Schedule, source: torch.Generator) -> Tensor:
        """Drawn timesteps [count] of the schedule, least_noise left out."""
        if self.noise_sampling == "uniform":
            return schedule.drawn(count, source, self.least_noise)
        return schedule.at(logit_normal(torch.rand(count, generator=source), self.least_noise))

    def recipe(self) -> dict[str, Any]:
        """Every setting but the predicate, ready for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "trainable"}
        return {**values, "betas": list(self.betas)}
