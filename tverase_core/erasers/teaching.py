"""What ESD and STEREO share: deltas that learn to predict what a target says.

The teacher is the unedited model itself, reached by setting the attachment's scale to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import EmptyConceptSetError, EmptyMaskError, NonFiniteError
from ..model.layout import ModelLayout
from ..ports import Context, Denoiser, Progress

Noised = tuple[Tensor, Tensor]
DrawNoised = Callable[[int, torch.Generator], Noised]
Target = Callable[[Noised, Context], Tensor]


def esd_keys(
    keys: Iterable[str], layout: ModelLayout, variant: Literal["x", "u"], method: str = "ESD"
) -> list[str]:
    """The weights that a variant trains, sorted. Raises EmptyMaskError when there are none."""
    wanted = sorted(k for k in keys if (layout.kind(k) == "cross_attn") == (variant == "x"))
    if not wanted:
        other = "u" if variant == "x" else "x"
        raise EmptyMaskError(
            f"{method}-{variant}: this model (layout {layout.name}) has no weight of that kind. x "
            "trains cross-attention, or the text's half of joint attention; u trains all others. "
            f"Set variant to {other}, or use Concept Fine-tune."
        )
    return wanted


def from_latents(denoiser: Denoiser, latents: Tensor) -> DrawNoised:
    """x_t by noising the concept's latents, float32 [n, c, h, w]: cheap, needs pictures."""
    if len(latents) < 1:
        raise EmptyConceptSetError("ESD: expected one or more concept latents, got none")
    held = latents.detach().to(denoiser.device, torch.float32)

    def draw(count: int, generator: torch.Generator) -> Noised:
        rows = torch.randint(0, len(held), (count,), generator=generator)
        steps = denoiser.schedule.drawn(count, generator)
        noise = torch.randn((count, *held.shape[1:]), generator=generator).to(held.device)
        times = steps.to(held.device)
        return denoiser.schedule.add_noise(held[rows.to(held.device)], noise, times), times

    return draw


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
