"""What ESD and STEREO share: deltas that learn to predict what a target says.

The teacher is the model itself without these deltas, reached by setting the attachment's scale
to 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import EmptyConceptSetError, EmptyMaskError, NonFiniteError
from ..model.layout import ModelLayout
from ..ports import Context, Denoiser, Progress

Variant = Literal["x", "u", "x-strict", "selfattn", "full"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
# The first and the last layer, which lie outside the numbered blocks of other programs' names.
OUTER = re.compile(r"diffusion_model\.(input_blocks\.0\.0|out)\.")
Noised = tuple[Tensor, Tensor]
DrawNoised = Callable[[Context, torch.Generator], Noised]
Target = Callable[[Noised, Tensor], Tensor]


def esd_keys(
    shapes: Mapping[str, torch.Size], layout: ModelLayout, variant: Variant, method: str = "ESD"
) -> list[str]:
    """The weights and biases that a variant trains, sorted.

    Of linear maps and convolutions, as in the code of arXiv 2303.07345: "x" those of the
    cross-attention, "x-strict" its keys and values alone, "u" all but the cross-attention,
    "selfattn" the self-attention's, "full" all. Norms are never trained. Of SDXL, "u" and "full"
    leave the embeddings and the first and last convolution out, as that code does.
    Raises EmptyMaskError when there are none.
    """
    large = any(".label_emb." in key for key in shapes)

    def inner(key: str) -> bool:
        outer = layout.kind(key) == "embed" or OUTER.match(key)
        return not (large and outer)

    trained: dict[Variant, Callable[[str], bool]] = {
        "x": lambda key: layout.kind(key) == "cross_attn",
        "u": lambda key: layout.kind(key) != "cross_attn" and inner(key),
        "x-strict": layout.reads_context,
        "selfattn": lambda key: layout.kind(key) == "self_attn",
        "full": inner,
    }
    maps = {key.rpartition(".")[0] for key, shape in shapes.items() if len(shape) > 1}
    wanted = sorted(k for k in shapes if k.rpartition(".")[0] in maps and trained[variant](k))
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

    def draw(prompts: Context, generator: torch.Generator) -> Noised:
        count = len(prompts.tokens)
        rows = torch.randint(0, len(held), (count,), generator=generator)
        steps = denoiser.schedule.drawn(count, generator)
        noise = torch.randn((count, *held.shape[1:]), generator=generator).to(held.device)
        times = steps.to(held.device)
        return denoiser.schedule.add_noise(held[rows.to(held.device)], noise, times), times

    return draw


def from_sampling(
    denoiser: Denoiser,
    null: Context,
    shape: Sequence[int],
    guidance: float = 3.0,
    sample_steps: int = 50,
) -> DrawNoised:
    """x_t by sampling the batch's own prompts with guidance, from noise down to a random step.

    null: one row, the empty prompt; shape: (c, h, w). Deterministic steps of the schedule with
    whatever deltas are at work.
    """
    schedule = denoiser.schedule
    ladder = schedule.ladder(sample_steps)

    def draw(prompts: Context, generator: torch.Generator) -> Noised:
        place, batch = denoiser.device, len(prompts.tokens)
        x = torch.randn((batch, *shape), generator=generator).to(place)
        stop = int(torch.randint(0, len(ladder), (1,), generator=generator))
        with torch.no_grad():
            for now, then in pairwise(ladder[: stop + 1]):
                times = now.expand(batch).to(place)
                e_c, e_0 = with_null(denoiser, (x, times), prompts, null)
                x = schedule.moved(x, e_0 + guidance * (e_c - e_0), now, then)
        return x, ladder[stop].expand(batch).to(place)

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


@dataclass(frozen=True, slots=True)
class Lesson:
    """What `teach` lets deltas learn.

    contexts: one or more rows, one for each sample. draw: as in `esd`, given these rows. target:
    (x_t and timesteps, rows of the contexts, int64 [b]) -> what the student shall predict there,
    float32 [b, c, h, w], called without the deltas and without gradients. draw_scale: the deltas'
    scale while x_t is drawn. in_turn: every row comes equally often, not by chance.
    learning_rate: the optimizer's, for advice. name: who speaks in errors.
    """

    name: str
    contexts: Context
    draw: DrawNoised
    target: Target
    steps: int
    batch_size: int
    learning_rate: float
    draw_scale: float = 0.0
    in_turn: bool = False

    def rows(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Which rows each batch has, int64 [b], without an end."""
        turns = in_turn(len(self.contexts.tokens), generator)
        while True:
            if self.in_turn:
                yield torch.tensor([next(turns) for _ in range(self.batch_size)])
            else:
                size = (self.batch_size,)
                yield torch.randint(0, len(self.contexts.tokens), size, generator=generator)


def in_turn(count: int, generator: torch.Generator) -> Iterator[int]:
    """Every number below count before any comes again, each time in a new order."""
    while True:
        yield from torch.randperm(count, generator=generator).tolist()


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
    contexts = lesson.contexts
    losses: list[float] = []
    with denoiser.attached(student) as attachment:
        for step, rows in zip(range(lesson.steps), lesson.rows(generator), strict=False):
            picked = contexts.pick(rows.to(contexts.tokens.device))
            with torch.no_grad():
                attachment.scale = lesson.draw_scale
                noised = lesson.draw(picked, generator)
                attachment.scale = 0.0
                target = lesson.target(noised, rows)
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
