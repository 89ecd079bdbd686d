"""Few-shot Unlearning: spoil what the text encoder makes of a concept's name (arXiv 2405.07288).

A baseline that leaves the diffusion model as it is. Gradient ascent has no optimum: how many
epochs it takes is the method's whole setting, so there is a result of each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import COUNT, POSITIVE, check_settings
from ..errors import ConfigError, EmptyConceptSetError, EmptyMaskError, NonFiniteError
from ..model.layout import TEXT_PREFIX
from ..model.layout_tables import CLIP_TOWER
from ..ports import Denoiser, EditableTextEncoder, Progress, quiet
from ..tensors import all_finite
from .teaching import towards

MARK = "{}"
_LAYER = re.compile(r"text_model\.encoder\.layers\.(\d+)\.(mlp\.fc[12]|self_attn)\..+")
# The authors' settings of Adam. Their decay pulls the weights to 0, this one the deltas: at 1e-8
# neither can be felt.
BETAS, EPSILON, WEIGHT_DECAY = (0.9, 0.98), 1e-6, 1e-8


@dataclass(frozen=True, slots=True)
class FewShotConfig:
    """Settings of `few_shot`; raises ConfigError with every problem.

    epochs: passes over the pictures; 4 in the authors' command, 5 in their code. batch_size:
    pictures a step, the last of an epoch may have fewer.
    """

    epochs: int = 4
    batch_size: int = 2
    learning_rate: float = 1e-5
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, {"epochs": COUNT, "batch_size": COUNT, "learning_rate": POSITIVE})


@dataclass(frozen=True, slots=True)
class FewShotResult:
    """by_epoch: after each epoch, or after the last alone, deltas float32 on the CPU, TOWARDS the
    concept, so W - 1.0 * delta is the method's own edited weight; losses: the denoising loss of
    each step, which rises."""

    by_epoch: tuple[dict[str, Tensor], ...]
    losses: tuple[float, ...]


def captioned(concept: str, templates: Sequence[str]) -> tuple[str, ...]:
    """The templates with the concept's name for each `{}`; blank ones do not count.

    Raises ConfigError with every problem: no name, no template, templates without `{}`.
    """
    name, lines = concept.strip(), [line.strip() for line in templates if line.strip()]
    problems = [f"the caption {line!r} has no {MARK}" for line in lines if MARK not in line]
    if not name:
        problems.append("the concept has no name")
    if not lines:
        problems.append("there is no caption")
    if problems:
        raise ConfigError(
            f"Few-shot Unlearning: {'; '.join(problems)}. Write captions such as 'a photo of a "
            f"{MARK}', one a line; {MARK} stands for the concept's name."
        )
    return tuple(line.replace(MARK, name) for line in lines)


def few_shot_keys(keys: Iterable[str]) -> list[str]:
    """The weights and biases that the method trains, sorted: every layer's feed-forward part, and
    the self-attention of each CLIP tower's last layer.

    keys: `text_encoders....`; others are left alone. Raises EmptyMaskError when there are none.
    """
    placed: list[tuple[str, str, int, str]] = []
    for key in keys:
        tower = CLIP_TOWER.fullmatch(key) if key.startswith(TEXT_PREFIX) else None
        layer = _LAYER.fullmatch(tower[2]) if tower else None
        if tower and layer:
            placed.append((key, tower[1], int(layer[1]), layer[2]))
    last: dict[str, int] = {}
    for _, name, number, _ in placed:
        last[name] = max(number, last.get(name, 0))
    wanted = [k for k, name, number, part in placed if part != "self_attn" or number == last[name]]
    if not wanted:
        raise EmptyMaskError(
            "Few-shot Unlearning: this text encoder has no CLIP layer. It knows those of Stable "
            "Diffusion 1.x, 2.x and XL."
        )
    return sorted(wanted)


def few_shot(
    denoiser: Denoiser,
    encoder: EditableTextEncoder,
    latents: Tensor,
    captions: Sequence[str],
    config: FewShotConfig | None = None,
    progress: Progress = quiet,
    *,
    every_epoch: bool = True,
) -> FewShotResult:
    """Raise the denoising loss of the concept's pictures by changing the text encoder alone.

    latents: float32 [n, c, h, w], a handful, each seen once an epoch, or `random_latents`.
    captions: whole texts (see `captioned`), one drawn for each picture at each step. every_epoch:
    keep the deltas after each epoch. Gradient ascent by Adam on arXiv 2405.07288, section 3, with
    its authors' settings; nothing is retained on purpose.
    Denoiser and encoder are left as they were, also when cancelled; equal seeds give equal deltas.
    Raises EmptyConceptSetError, ConfigError, EmptyMaskError, NonFiniteError.
    """
    config = config or FewShotConfig()
    if len(latents) < 1:
        raise EmptyConceptSetError("Few-shot Unlearning: expected one or more latents, got none")
    if not captions:
        raise ConfigError("Few-shot Unlearning: expected one or more captions, got none")
    shapes = encoder.weight_shapes()
    losses: list[float] = []
    with torch.inference_mode(False), torch.enable_grad():
        trained = {
            key: torch.zeros(shapes[key], device=encoder.device, requires_grad=True)
            for key in few_shot_keys(shapes)
        }
        optimizer = torch.optim.Adam(
            list(trained.values()),
            lr=config.learning_rate,
            betas=BETAS,
            eps=EPSILON,
            weight_decay=WEIGHT_DECAY,
            maximize=True,
            foreach=False,  # together would hold two further copies on a GPU
        )
        generator = torch.Generator().manual_seed(config.seed)
        kept: list[dict[str, Tensor]] = []
        steps = config.epochs * -(-len(latents) // config.batch_size)
        with encoder.attached(trained):
            for epoch, rows, last in _batches(len(latents), config, generator):
                loss = _loss(denoiser, encoder, latents[rows], captions, generator)
                losses.append(float(loss.detach()))
                if not math.isfinite(losses[-1]):
                    raise _diverged(f"the loss is {losses[-1]}", len(losses), steps, config)
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimizer.step()
                told = f"Few-shot Unlearning, epoch {epoch}, loss {losses[-1]:.4f}"
                progress(len(losses), steps, told)
                if last and (every_epoch or epoch == config.epochs):
                    kept.append(_towards(trained, len(losses), steps, config))
    return FewShotResult(tuple(kept), tuple(losses))


def _batches(
    count: int, config: FewShotConfig, generator: torch.Generator
) -> Iterator[tuple[int, list[int], bool]]:
    """(epoch from 1, picture numbers, whether it is the epoch's last) of each step."""
    for epoch in range(1, config.epochs + 1):
        order = torch.randperm(count, generator=generator).tolist()
        for first in range(0, count, config.batch_size):
            rows = order[first : first + config.batch_size]
            yield epoch, rows, first + config.batch_size >= count


def random_latents(count: int, shape: Sequence[int], seed: int = 0) -> Tensor:
    """Latents in place of pictures, for unlearning from a name alone: float32 [count, c, h, w],
    uniform in 0..1, as in the authors' code, which takes as many as a batch has."""
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(seed))


def _loss(
    denoiser: Denoiser,
    encoder: EditableTextEncoder,
    clean: Tensor,
    captions: Sequence[str],
    generator: torch.Generator,
) -> Tensor:
    """Mean squared error of the prediction for noised latents [b, c, h, w] under drawn captions."""
    schedule, count = denoiser.schedule, len(clean)
    drawn = torch.randint(0, len(captions), (count,), generator=generator).tolist()
    times = schedule.drawn(count, generator).to(denoiser.device)
    noise = torch.randn(clean.shape, generator=generator).to(denoiser.device)
    clean = clean.detach().to(denoiser.device, torch.float32, copy=True)
    x_t = schedule.add_noise(clean, noise, times)
    context = encoder.encode([captions[row] for row in drawn]).to(denoiser.device)
    made = denoiser.predict(x_t, times, context)
    return torch.nn.functional.mse_loss(made, schedule.target(clean, noise, times))


def _towards(
    trained: Mapping[str, Tensor], step: int, steps: int, config: FewShotConfig
) -> dict[str, Tensor]:
    """What was trained away from the concept, turned towards it; zeros are left out."""
    deltas = towards(trained)
    broken = next((key for key, delta in deltas.items() if not all_finite(delta)), None)
    if broken:
        raise _diverged(f"{broken} is not finite", step, steps, config)
    return deltas


def _diverged(what: str, step: int, steps: int, config: FewShotConfig) -> NonFiniteError:
    return NonFiniteError(
        f"Few-shot Unlearning: {what} at step {step} of {steps}; use fewer epochs or a smaller "
        f"learning rate than {config.learning_rate:g}"
    )
