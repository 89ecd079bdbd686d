"""The settings of a concept fine-tune, the paper's recipe by default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import ConfigError
from ..schedule import half_cosine

Trainable = Callable[[str], bool]
Optimizer = Literal["adamw", "adamw8bit"]
RateSchedule = Literal["constant", "cosine"]


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

    def __post_init__(self) -> None:
        checks = {
            f"steps must be 1 or more, got {self.steps}": self.steps >= 1,
            f"batch_size must be 1 or more, got {self.batch_size}": self.batch_size >= 1,
            f"accumulation must divide batch_size, got {self.accumulation} for "
            f"{self.batch_size}": self.accumulation >= 1
            and self.batch_size % max(self.accumulation, 1) == 0,
            f"learning_rate must be above 0 and below 10, got {self.learning_rate}": 0
            < self.learning_rate
            < 10,
            f"weight_decay must be 0 to 1, got {self.weight_decay}": 0 <= self.weight_decay <= 1,
            f"betas must be in [0, 1), got {self.betas}": len(self.betas) == 2
            and all(0 <= beta < 1 for beta in self.betas),
            f"gradient_clip must be above 0, got {self.gradient_clip}": self.gradient_clip > 0,
            f"seed must be 0 to 2**63 - 1, got {self.seed}": 0 <= self.seed < 2**63,
            f"optimizer must be 'adamw' or 'adamw8bit', got {self.optimizer!r}": (
                self.optimizer in get_args(Optimizer)
            ),
            f"rate_schedule must be 'constant' or 'cosine', got {self.rate_schedule!r}": (
                self.rate_schedule in get_args(RateSchedule)
            ),
            f"rank must be 1 or more, or None, got {self.rank}": self.rank is None
            or self.rank >= 1,
            f"retained_weight must be 0 to 1000, got {self.retained_weight}": 0
            <= self.retained_weight
            <= 1000,
            f"retained_strength must be above 0 and at most 100, got {self.retained_strength}": 0
            < self.retained_strength
            <= 100,
            f"guidance must be 0 to 100, got {self.guidance}": 0 <= self.guidance <= 100,
        }
        checks[f"least_noise must be 0 or more and below 1, got {self.least_noise}"] = (
            0 <= self.least_noise < 1
        )
        problems = [sentence for sentence, good in checks.items() if not good]
        if problems:
            raise ConfigError("Fine-tune settings: " + "; ".join(problems) + ".")

    def allows(self, key: str, axes: int) -> bool:
        """Whether the weight of that key and number of axes is trained."""
        return (self.trainable is None or self.trainable(key)) and (self.rank is None or axes >= 2)

    def rate(self, step: int) -> float:
        """Learning rate of that step, counted from 1."""
        if self.rate_schedule == "constant":
            return self.learning_rate
        return self.learning_rate * half_cosine(step, self.steps)

    def timesteps(self, count: int, length: int, source: torch.Generator) -> Tensor:
        """Uniform timesteps int64 [count] of a schedule of `length` steps, least_noise left out."""
        return torch.randint(int(self.least_noise * length), length, (count,), generator=source)

    def recipe(self) -> dict[str, Any]:
        """Every setting but the predicate, ready for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "trainable"}
        return {**values, "betas": list(self.betas)}
