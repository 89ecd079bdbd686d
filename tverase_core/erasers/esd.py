"""ESD: teach the model to predict, under the concept's prompt, away from it (arXiv 2303.07345).

A baseline that depends on the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..checks import COUNT, POSITIVE, check_settings, one_of
from ..errors import ConfigError
from ..model.layout import ModelLayout
from ..ports import Context, Denoiser, Progress, quiet
from .teaching import (
    VARIANTS,
    DrawNoised,
    Lesson,
    Noised,
    Variant,
    esd_keys,
    teach,
    towards,
    with_null,
    zero_deltas,
)


@dataclass(frozen=True, slots=True)
class EsdConfig:
    """Settings of `esd`; raises ConfigError with every problem.

    variant: which weights, see `esd_keys`. eta: how far from the anchor. anchor: the prediction
    that the target starts from, "concept" or "null". The defaults are those of the authors' code
    for Stable Diffusion 1; anchor "null" and eta 1, the paper's, are the same target. For SDXL
    that code has eta 1, and a learning rate of 2e-4 (x and x-strict) or 1e-5.
    """

    variant: Variant = "x"
    steps: int = 200
    batch_size: int = 1
    learning_rate: float = 5e-5
    eta: float = 2.0
    anchor: Literal["concept", "null"] = "concept"
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "variant": one_of(*VARIANTS),
            "anchor": one_of("concept", "null"),
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


def esd(
    denoiser: Denoiser,
    layout: ModelLayout,
    concept: Context,
    null: Context,
    draw: DrawNoised,
    config: EsdConfig | None = None,
    progress: Progress = quiet,
    *,
    erase_from: Context | None = None,
) -> EsdResult:
    """Train ESD's deltas; the denoiser is left as it was, also when cancelled.

    The target is e(anchor) - eta * (e(concept) - e(null)) of the unedited model: arXiv 2303.07345,
    section 4.
    concept: one or more rows, one drawn a sample; null: one row, the empty prompt. draw: makes
    (x_t float32 [b, c, h, w], timesteps int64 [b]) for the batch's prompts, [b] rows, from
    `from_latents` or `from_sampling`; it is called with the deltas off. erase_from: a row for each
    of the concept's, the text that is shown and that loses the concept but keeps the rest; by
    default the concept itself. Adam without weight decay; equal seeds give equal deltas.
    Raises EmptyMaskError, ConfigError, NonFiniteError.
    """
    config = config or EsdConfig()
    shown = concept if erase_from is None else erase_from
    _check(concept, null, shown, config)
    keys = esd_keys(denoiser.weight_shapes(), layout, config.variant)

    def target(noised: Noised, rows: Tensor) -> Tensor:
        named = concept.pick(rows.to(concept.tokens.device))
        e_c, e_0 = with_null(denoiser, noised, named, null)
        start = e_c if config.anchor == "concept" else e_0
        if erase_from is not None:
            start = denoiser.predict(*noised, shown.pick(rows.to(shown.tokens.device)))
        return start - config.eta * (e_c - e_0)

    def told(done: int, total: int, message: str) -> None:
        progress(done, total, f"ESD-{config.variant} {message}")

    with torch.inference_mode(False), torch.enable_grad():
        student = zero_deltas(denoiser, keys)
        own = list(student.values())
        # Together (the default on a GPU) would hold a further copy of all that is trained.
        optimizer = torch.optim.Adam(own, lr=config.learning_rate, foreach=False)
        lesson = Lesson(
            "ESD", shown, draw, target, config.steps, config.batch_size, config.learning_rate
        )
        generator = torch.Generator().manual_seed(config.seed)
        losses = teach(denoiser, student, optimizer, lesson, generator, told)
    return EsdResult(towards(student), tuple(losses))


def _check(concept: Context, null: Context, shown: Context, config: EsdConfig) -> None:
    if len(concept.tokens) < 1 or len(null.tokens) != 1:
        raise ConfigError(
            f"ESD: expected one or more concept rows and one empty prompt, got "
            f"{len(concept.tokens)} and {len(null.tokens)}"
        )
    if len(shown.tokens) != len(concept.tokens):
        raise ConfigError(
            f"ESD: expected a text to erase from for each of {len(concept.tokens)} prompts, got "
            f"{len(shown.tokens)}"
        )
    if shown is not concept and config.anchor == "null":
        raise ConfigError(
            "ESD: with anchor 'null' all of `erase_from` would be erased, not the concept alone. "
            "Set anchor to 'concept', and eta to 2."
        )
