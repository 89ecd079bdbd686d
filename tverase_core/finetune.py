"""Fine-tune a denoiser on a concept by training the difference itself.

Known from the paper (arXiv 2404.03631, abstract) and its released code: the whole UNet is tuned on
pictures of the concept under empty captions with the plain denoising loss, AdamW at a constant
1e-5 with weight decay 1e-2, gradient norm 1, 200 steps of 16 pictures, flips, moving average; the
task vector is tuned minus base. Training the delta directly, in float32 from zero, is our way to
the same vector: no second model and no rounding in a subtraction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from torch import Tensor

from .concept_set import ConceptSet
from .ema import DeltaAverage
from .errors import ConfigError, EmptyMaskError, NonFiniteError
from .low_rank import LowRank
from .ports import Context, Denoiser, Progress

Trainable = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """The paper's recipe by default. Raises ConfigError that names every bad setting.

    batch_size pictures a step, shown in `accumulation` equal parts, so memory is that of
    batch_size / accumulation pictures. Weight decay acts on the delta: it pulls towards the base
    weights, where AdamW on the weights themselves (the paper) pulls them to zero. At the default
    rates either moves a weight by less than 2e-5 of its size; ours adds nothing to the vector that
    is not about the concept. "sgd" has momentum betas[0] and no weight decay. rank: train a delta
    of that rank in each matrix or flattened convolution instead of a full one; biases and norms
    then stay as they are (our addition).
    trainable: which weights may move, by key; None is all of them.
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
    optimizer: Literal["adamw", "sgd"] = "adamw"
    rank: int | None = None
    trainable: Trainable | None = field(default=None, compare=False)

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
            f"optimizer must be 'adamw' or 'sgd', got {self.optimizer!r}": self.optimizer
            in ("adamw", "sgd"),
            f"rank must be 1 or more, or None, got {self.rank}": self.rank is None
            or self.rank >= 1,
        }
        problems = [sentence for sentence, good in checks.items() if not good]
        if problems:
            raise ConfigError("Fine-tune settings: " + "; ".join(problems) + ".")

    def recipe(self) -> dict[str, Any]:
        """Every setting but the predicate, ready for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "trainable"}
        return {**values, "betas": list(self.betas)}


@dataclass(frozen=True, slots=True)
class FinetuneStep:
    """What one optimizer step did; step counts from 1."""

    step: int
    steps: int
    loss: float
    gradient_norm: float


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """deltas: tuned minus base, float32 CPU by weight key, towards the concept."""

    deltas: Mapping[str, Tensor]
    losses: tuple[float, ...]
    config: FinetuneConfig
    concept: str
    concept_digest: str


def finetune(
    denoiser: Denoiser,
    concept_set: ConceptSet,
    config: FinetuneConfig,
    progress: Progress,
    on_step: Callable[[FinetuneStep], None] | None = None,
) -> FinetuneResult:
    """Learn what to add to the weights so that the denoiser draws the concept.

    The denoiser's weights are never written; it is left as found by any way out. `progress` is
    called before each part of a step and cancels by raising. Equal seeds on equal machines give
    equal bits. Raises EmptyMaskError when nothing may move, NonFiniteError naming the step.
    Loss: mean of (prediction - target)^2 in the denoiser's native prediction, timesteps uniform
    (arXiv 2006.11239, eq. 14; arXiv 2202.00512 for v).
    """
    with torch.inference_mode(False), torch.enable_grad():
        deltas = _zero_deltas(denoiser, config)
        low_rank = LowRank(deltas, config.rank, config.seed) if config.rank else None
        learned = low_rank.factors() if low_rank else list(deltas.values())
        optimizer = _optimizer(learned, config)
        average = DeltaAverage(deltas) if config.ema else None
        losses: list[float] = []
        batches = _batches(denoiser, concept_set, config)
        with denoiser.attached(deltas):
            for step in range(1, config.steps + 1):
                loss = _accumulate(denoiser, next(batches), config, step, progress)
                if low_rank:
                    low_rank.pull_gradients()
                norm = _clip(learned, config.gradient_clip, step)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if low_rank:
                    low_rank.push_deltas()
                if average:
                    average.update(deltas)
                losses.append(loss)
                if on_step:
                    on_step(FinetuneStep(step, config.steps, loss, norm))
        final = average.deltas if average else deltas
    progress(config.steps, config.steps, f"learned {concept_set.concept}, loss {losses[-1]:.4f}")
    return FinetuneResult(
        {key: value.detach().cpu().contiguous() for key, value in final.items()},
        tuple(losses),
        config,
        concept_set.concept,
        concept_set.digest,
    )


def _zero_deltas(denoiser: Denoiser, config: FinetuneConfig) -> dict[str, Tensor]:
    allowed = config.trainable or (lambda key: True)
    deltas = {
        key: torch.zeros(shape, dtype=torch.float32, device=denoiser.device, requires_grad=True)
        for key, shape in sorted(denoiser.weight_shapes().items())
        if allowed(key) and (config.rank is None or len(shape) >= 2)
    }
    if not deltas:
        raise EmptyMaskError(
            "Fine-tune: the mask leaves no weight that may move. Choose at least one block."
        )
    return deltas


def _optimizer(learned: list[Tensor], config: FinetuneConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            learned, config.learning_rate, momentum=config.betas[0], weight_decay=0.0
        )
    return torch.optim.AdamW(
        learned, config.learning_rate, config.betas, weight_decay=config.weight_decay
    )


def _picks(count: int, size: int, source: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of picture numbers: every picture once before any comes again."""
    waiting = torch.empty(0, dtype=torch.int64)
    while True:
        while len(waiting) < size:
            waiting = torch.cat([waiting, torch.randperm(count, generator=source)])
        yield waiting[:size]
        waiting = waiting[size:]


@dataclass(frozen=True, slots=True)
class _Part:
    """One forward pass: noisy latents, their timesteps, what to predict, and the text."""

    x_t: Tensor
    timesteps: Tensor
    target: Tensor
    context: Context


def _batches(
    denoiser: Denoiser, pictures: ConceptSet, config: FinetuneConfig
) -> Iterator[list[_Part]]:
    source = torch.Generator().manual_seed(config.seed)
    schedule, device = denoiser.schedule, denoiser.device
    for rows in _picks(len(pictures), config.batch_size, source):
        x0 = pictures.latents[rows]
        if config.flip:
            flipped = torch.rand(len(rows), generator=source) < 0.5
            x0 = torch.where(flipped.view(-1, 1, 1, 1), x0.flip(-1), x0)
        noise = torch.randn(x0.shape, generator=source)
        timesteps = torch.randint(len(schedule), (len(rows),), generator=source)
        x_t, target = (form(x0, noise, timesteps) for form in (schedule.add_noise, schedule.target))
        yield [
            _Part(
                x_t[part].to(device),
                timesteps[part].to(device),
                target[part].to(device),
                _moved(pictures.contexts_of(rows[part]), device),
            )
            for part in torch.arange(len(rows)).chunk(config.accumulation)
        ]


def _moved(context: Context, device: torch.device) -> Context:
    return Context(
        context.tokens.to(device), {name: value.to(device) for name, value in context.extra.items()}
    )


def _accumulate(
    denoiser: Denoiser, parts: list[_Part], config: FinetuneConfig, step: int, progress: Progress
) -> float:
    """Gradient of the whole batch, part by part; returns its loss."""
    total = 0.0
    for part in parts:
        progress(step - 1, config.steps, f"step {step} of {config.steps}")
        predicted = denoiser.predict(part.x_t, part.timesteps, part.context)
        loss = (predicted.float() - part.target).square().mean() / len(parts)
        value = float(loss.detach())
        if value != value or value in (float("inf"), float("-inf")):
            raise NonFiniteError(
                f"Fine-tune: the loss became {value} at step {step} of {config.steps}. "
                "Lower the learning rate, or compute in float32 or bfloat16 instead of float16."
            )
        torch.autograd.backward(loss)
        total += value
    return total


def _clip(learned: list[Tensor], limit: float, step: int) -> float:
    norm = float(torch.nn.utils.clip_grad_norm_(learned, limit))
    if norm != norm or norm == float("inf"):
        raise NonFiniteError(
            f"Fine-tune: the gradient became {norm} at step {step}. "
            "Lower the learning rate, or compute in float32 or bfloat16 instead of float16."
        )
    return norm
