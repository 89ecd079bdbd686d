"""ESD: teach the model to predict, under the concept's prompt, away from it (arXiv 2303.07345).

A baseline that depends on the prompt. The teacher is the unedited model itself, reached by setting
the attachment's scale to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ..checks import COUNT, POSITIVE, check_settings, one_of
from ..errors import ConfigError, EmptyConceptSetError, EmptyMaskError, NonFiniteError
from ..model.layout import ModelLayout
from ..ports import Context, Denoiser, Progress, quiet

Noised = tuple[Tensor, Tensor]
DrawNoised = Callable[[int, torch.Generator], Noised]
Target = Callable[[Noised, Context], Tensor]


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


def esd_keys(
    keys: Iterable[str], layout: ModelLayout, variant: Literal["x", "u"], method: str = "ESD"
) -> list[str]:
    """The weights that a variant trains, sorted. Raises EmptyMaskError when there are none."""
    wanted = sorted(k for k in keys if (layout.kind(k) == "cross_attn") == (variant == "x"))
    if not wanted:
        raise EmptyMaskError(f"{method}-{variant}: this model has no weight of that kind")
    return wanted


def from_latents(denoiser: Denoiser, latents: Tensor) -> DrawNoised:
    """x_t by noising the concept's latents, float32 [n, c, h, w]: cheap, needs pictures."""
    if len(latents) < 1:
        raise EmptyConceptSetError("ESD: expected one or more concept latents, got none")
    held = latents.detach().to(denoiser.device, torch.float32)

    def draw(count: int, generator: torch.Generator) -> Noised:
        rows = torch.randint(0, len(held), (count,), generator=generator)
        steps = torch.randint(0, len(denoiser.schedule), (count,), generator=generator)
        noise = torch.randn((count, *held.shape[1:]), generator=generator).to(held.device)
        times = steps.to(held.device)
        return denoiser.schedule.add_noise(held[rows.to(held.device)], noise, times), times

    return draw


def from_sampling(
    denoiser: Denoiser,
    concept: Context,
    null: Context,
    shape: tuple[int, int, int],
    guidance: float = 3.0,
    sample_steps: int = 50,
) -> DrawNoised:
    """x_t by sampling the concept's prompt with guidance from noise down to a random step.

    shape: (c, h, w). Deterministic DDIM (arXiv 2010.02502, eq. 12 with sigma 0). The caller sees
    to it that no delta is at work.
    """
    total = len(denoiser.schedule)
    count = min(sample_steps, total)
    ladder = torch.linspace(total - 1, 0, count).round().long().tolist()
    table = denoiser.schedule.alphas_cumprod

    def draw(batch: int, generator: torch.Generator) -> Noised:
        place = denoiser.device
        x = torch.randn((batch, *shape), generator=generator).to(place)
        row = torch.randint(0, len(concept.tokens), (batch,), generator=generator)
        stop = int(torch.randint(0, count, (1,), generator=generator))
        with torch.no_grad():
            for now, then in pairwise(ladder[: stop + 1]):
                times = torch.full((batch,), now, device=place)
                e_c, e_0 = with_null(denoiser, (x, times), concept.pick(row), null)
                x = _ddim(denoiser, x, e_0 + guidance * (e_c - e_0), table[now], table[then])
        return x, torch.full((batch,), ladder[stop], device=place)

    return draw


def _ddim(denoiser: Denoiser, x: Tensor, made: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """One DDIM step from signal share `now` to `then`."""
    a, s = float(now.sqrt()), float((1 - now).sqrt())
    if denoiser.schedule.prediction == "v":
        clean, noise = a * x - s * made, s * x + a * made
    else:
        clean, noise = (x - s * made) / a, made
    return float(then.sqrt()) * clean + float((1 - then).sqrt()) * noise


def one_row(context: Context, row: int, count: int) -> Context:
    """That row of the context, `count` times."""
    return context.pick(torch.full((count,), row, device=context.tokens.device))


def with_null(
    denoiser: Denoiser, noised: Noised, concept: Context, null: Context
) -> tuple[Tensor, Tensor]:
    """Predictions under the concept's rows and under the empty prompt, [b, c, h, w] each."""
    empty = one_row(null, 0, len(noised[0]))
    return denoiser.predict(*noised, concept), denoiser.predict(*noised, empty)


def steered(
    denoiser: Denoiser,
    noised: Noised,
    concept: Context,
    null: Context,
    eta: float,
    anchor: Literal["null", "concept"],
) -> Tensor:
    """anchor - eta * (e(c) - e(null)) of the denoiser as it is; arXiv 2303.07345, section 4."""
    e_c, e_0 = with_null(denoiser, noised, concept, null)
    return (e_c if anchor == "concept" else e_0) - eta * (e_c - e_0)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What `teach` lets deltas learn.

    contexts: one or more rows, one drawn a sample. draw: as in `esd`. target: (x_t and timesteps,
    contexts of the batch) -> what the student shall predict under them, float32 [b, c, h, w].
    Both are called with the deltas off, target without gradients too. learning_rate: the
    optimizer's, for advice. name: who speaks in errors.
    """

    name: str
    contexts: Context
    draw: DrawNoised
    target: Target
    steps: int
    batch_size: int
    learning_rate: float


def zero_deltas(denoiser: Denoiser, keys: Iterable[str]) -> dict[str, Tensor]:
    """A delta to train for each weight, float32 zeros on the denoiser's device."""
    shapes = denoiser.weight_shapes()
    return {k: torch.zeros(shapes[k], device=denoiser.device, requires_grad=True) for k in keys}


def towards(student: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Trained deltas, which point away from the concept, turned round: float32 on the CPU,
    without those that are zero throughout."""
    turned = {k: (0.0 - v.detach()).to("cpu").contiguous() for k, v in student.items()}
    return {k: v for k, v in turned.items() if bool(v.any())}


def teach(
    denoiser: Denoiser,
    student: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    lesson: Lesson,
    generator: torch.Generator,
    progress: Progress,
) -> list[float]:
    """Train the deltas `student` in place; returns the mean squared error of each step.

    They are attached while this runs, also when it is left by an error; `progress` is called after
    each step. Call it with gradients on. Raises NonFiniteError naming the step.
    """
    count, contexts = lesson.batch_size, lesson.contexts
    losses: list[float] = []
    with denoiser.attached(student) as attachment:
        for step in range(lesson.steps):
            attachment.scale = 0.0
            noised = lesson.draw(count, generator)
            rows = torch.randint(0, len(contexts.tokens), (count,), generator=generator)
            picked = contexts.pick(rows.to(contexts.tokens.device))
            with torch.no_grad():
                target = lesson.target(noised, picked)
            attachment.scale = 1.0
            made = denoiser.predict(*noised, picked)
            loss = torch.nn.functional.mse_loss(made, target)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise NonFiniteError(
                    f"{lesson.name}: the loss is {losses[-1]} at step {step + 1} of "
                    f"{lesson.steps}; use a smaller learning rate than {lesson.learning_rate:g}"
                )
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            progress(step + 1, lesson.steps, f"loss {losses[-1]:.4f}")
    return losses


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
