"""ESD: teach the model to predict, under the concept's prompt, away from it (arXiv 2303.07345).

A baseline that depends on the prompt. The teacher is the unedited model itself, reached by setting
the attachment's scale to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ..errors import ConfigError, EmptyConceptSetError, EmptyMaskError, NonFiniteError
from ..layout import ModelLayout
from ..ports import Attachment, Context, Denoiser, Progress, quiet

Noised = tuple[Tensor, Tensor]
DrawNoised = Callable[[int, torch.Generator], Noised]


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
        problems = []
        if self.variant not in ("x", "u"):
            problems.append(f"variant: expected 'x' or 'u', got {self.variant!r}")
        if self.anchor not in ("null", "concept"):
            problems.append(f"anchor: expected 'null' or 'concept', got {self.anchor!r}")
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                problems.append(f"{name}: expected 1 or more, got {getattr(self, name)}")
        for name in ("learning_rate", "eta"):
            if not 0 < getattr(self, name) < math.inf:
                problems.append(f"{name}: expected a finite number > 0, got {getattr(self, name)}")
        if problems:
            raise ConfigError("; ".join(problems))


@dataclass(frozen=True, slots=True)
class EsdResult:
    """deltas: float32 on the CPU, TOWARDS the concept, so W - 1.0 * delta is ESD's edited weight;
    losses: one a step."""

    deltas: dict[str, Tensor]
    losses: tuple[float, ...]


def esd_keys(keys: Iterable[str], layout: ModelLayout, variant: Literal["x", "u"]) -> list[str]:
    """The weights that a variant trains, sorted. Raises EmptyMaskError when there are none."""
    wanted = sorted(k for k in keys if (layout.kind(k) == "cross_attn") == (variant == "x"))
    if not wanted:
        raise EmptyMaskError(f"ESD-{variant}: this model has no weight of that kind")
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
                e_c, e_0 = _pair(denoiser, x, times, concept.pick(row), null)
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


def _pair(
    denoiser: Denoiser, x_t: Tensor, times: Tensor, concept: Context, null: Context
) -> tuple[Tensor, Tensor]:
    """Predictions under the concept's rows and under the empty prompt."""
    empty = null.pick(torch.zeros(len(x_t), dtype=torch.long, device=null.tokens.device))
    return denoiser.predict(x_t, times, concept), denoiser.predict(x_t, times, empty)


def _target(
    denoiser: Denoiser,
    attachment: Attachment,
    noised: Noised,
    concept: Context,
    null: Context,
    config: EsdConfig,
) -> Tensor:
    """anchor - eta * (e(c) - e(null)) of the unedited model; arXiv 2303.07345, section 4."""
    attachment.scale = 0.0
    with torch.no_grad():
        e_c, e_0 = _pair(denoiser, *noised, concept, null)
    attachment.scale = 1.0
    return (e_c if config.anchor == "concept" else e_0) - config.eta * (e_c - e_0)


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
    shapes = denoiser.weight_shapes()
    keys = esd_keys(shapes, layout, config.variant)
    generator = torch.Generator().manual_seed(config.seed)
    losses: list[float] = []
    with torch.inference_mode(False), torch.enable_grad():
        student = {
            k: torch.zeros(shapes[k], device=denoiser.device, requires_grad=True) for k in keys
        }
        optimizer = torch.optim.Adam(list(student.values()), lr=config.learning_rate)
        with denoiser.attached(student) as attachment:
            for step in range(config.steps):
                attachment.scale = 0.0
                noised = draw(config.batch_size, generator)
                rows = torch.randint(
                    0, len(concept.tokens), (config.batch_size,), generator=generator
                )
                picked = concept.pick(rows.to(concept.tokens.device))
                target = _target(denoiser, attachment, noised, picked, null, config)
                made = denoiser.predict(*noised, picked)
                loss = torch.nn.functional.mse_loss(made, target)
                losses.append(float(loss.detach()))
                if not math.isfinite(losses[-1]):
                    raise NonFiniteError(
                        f"ESD: the loss is {losses[-1]} at step {step + 1} of {config.steps}; use "
                        f"a smaller learning rate than {config.learning_rate:g}"
                    )
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimizer.step()
                progress(step + 1, config.steps, f"ESD-{config.variant} loss {losses[-1]:.4f}")
    deltas = {k: (0.0 - v.detach()).to("cpu").contiguous() for k, v in student.items()}
    return EsdResult({k: v for k, v in deltas.items() if bool(v.any())}, tuple(losses))
