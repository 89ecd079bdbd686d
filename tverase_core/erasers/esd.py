"""ESD: teach the model to predict, under the concept's prompt, away from it (arXiv 2303.07345).

A baseline that depends on the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ..checks import COUNT, POSITIVE, check_settings, one_of
from ..errors import ConfigError
from ..model.layout import ModelLayout
from ..ports import Context, Denoiser, Progress, quiet
from .teaching import (
    DrawNoised,
    Lesson,
    Noised,
    esd_keys,
    steered,
    teach,
    towards,
    with_null,
    zero_deltas,
)


@dataclass(frozen=True, slots=True)
class EsdConfig:
    """Settings of `esd`; raises ConfigError with every problem.

    variant: "x" trains cross-attention only, "u" everything but it. eta: how far past the anchor.
    anchor: the prediction that the target starts from, "null" (the paper) or "concept" (the later
    code, where eta 2 equals the paper's eta 1).
    """

    variant: Literal["x", "u"] = "x"
    steps: int = 200
    batch_size: int = 1
    learning_rate: float = 5e-5
    eta: float = 1.0
    anchor: Literal["null", "concept"] = "null"
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "variant": one_of("x", "u"),
            "anchor": one_of("null", "concept"),
            **dict.fromkeys(("steps", "batch_size"), COUNT),
            **dict.fromkeys(("learning_rate", "eta"), POSITIVE),
        }
        check_settings(self, rules)


@dataclass(frozen=True, slots=True)
class EsdResult:
    """deltas: float32 on the CPU, TOWARDS the concept, so W - 1.0 * delta is ESD's edited weight;
    losses: one a step."""

    deltas: dict[str, Tensor]
    losses: tuple[float, ...]


def from_sampling(
    denoiser: Denoiser,
    concept: Context,
    null: Context,
    shape: tuple[int, int, int],
    guidance: float = 3.0,
    sample_steps: int = 50,
) -> DrawNoised:
    """x_t by sampling the concept's prompt with guidance from noise down to a random step.

    shape: (c, h, w). By deterministic steps of the schedule. The caller sees to it that no delta
    is at work.
    """
    schedule = denoiser.schedule
    ladder = schedule.ladder(sample_steps)

    def draw(batch: int, generator: torch.Generator) -> Noised:
        place = denoiser.device
        x = torch.randn((batch, *shape), generator=generator).to(place)
        row = torch.randint(0, len(concept.tokens), (batch,), generator=generator)
        stop = int(torch.randint(0, len(ladder), (1,), generator=generator))
        with torch.no_grad():
            for now, then in pairwise(ladder[: stop + 1]):
                times = now.expand(batch).to(place)
                e_c, e_0 = with_null(denoiser, (x, times), concept.pick(row), null)
                x = schedule.moved(x, e_0 + guidance * (e_c - e_0), now, then)
        return x, ladder[stop].expand(batch).to(place)

    return draw


def esd(
    denoiser: Denoiser,
    layout: ModelLayout,
    concept: Context,
    null: Context,
    draw: DrawNoised,
    config: EsdConfig | None = None,
    progress: Progress = quiet,
) -> EsdResult:
    """Train ESD-x or ESD-u deltas; the denoiser is left as it was, also when cancelled.

    concept: one or more rows, one drawn a sample; null: one row, the empty prompt. draw: makes
    (x_t float32 [b, c, h, w], timesteps int64 [b]) from `from_latents` or `from_sampling`; it is
    called with the deltas off. Adam without weight decay; equal seeds give equal deltas.
    Raises EmptyMaskError, ConfigError, NonFiniteError.
    """
    config = config or EsdConfig()
    if len(concept.tokens) < 1 or len(null.tokens) != 1:
        raise ConfigError(
            f"ESD: expected one or more concept rows and one empty prompt, got "
            f"{len(concept.tokens)} and {len(null.tokens)}"
        )
    keys = esd_keys(denoiser.weight_shapes(), layout, config.variant)

    def target(noised: Noised, picked: Context) -> Tensor:
        return steered(denoiser, noised, picked, null, config.eta, config.anchor)

    def told(done: int, total: int, message: str) -> None:
        progress(done, total, f"ESD-{config.variant} {message}")

    with torch.inference_mode(False), torch.enable_grad():
        student = zero_deltas(denoiser, keys)
        own = list(student.values())
        # Together (the default on a GPU) would hold a further copy of all that is trained.
        optimizer = torch.optim.Adam(own, lr=config.learning_rate, foreach=False)
        lesson = Lesson(
            "ESD", concept, draw, target, config.steps, config.batch_size, config.learning_rate
        )
        generator = torch.Generator().manual_seed(config.seed)
        losses = teach(denoiser, student, optimizer, lesson, generator, told)
    return EsdResult(towards(student), tuple(losses))
