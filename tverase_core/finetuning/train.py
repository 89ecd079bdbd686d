"""Fine-tune a denoiser on a concept by training the difference itself.

Known from the paper (arXiv 2404.03631, abstract) and its released code: the whole UNet is tuned on
pictures of the concept under empty captions with the plain denoising loss, AdamW at a constant
1e-5 with weight decay 1e-2, gradient norm 1, 200 steps of 16 pictures, flips, moving average; the
task vector is tuned minus base. Training the delta directly, in float32 from zero, is our way to
the same vector: no second model and no rounding in a subtraction.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeGuard

import torch
from torch import Tensor

from ..concept_set import ConceptSet, check_one_encoder
from ..errors import ConfigError, EmptyMaskError, NonFiniteError, ShapeMismatchError
from ..ports import Attachment, Denoiser, Progress
from ..storage.reproducible import compact_json
from ..storage.training_state import TrainingState
from .average import DeltaAverage
from .batches import Part, batches
from .config import FinetuneConfig
from .guided_target import guided_target
from .low_rank import LowRankDeltas, starting_factors
from .movers import FusedBackward, KeptGradients, Mover
from .retention import retention_losses

OptimizerMaker: TypeAlias = Callable[[list[Tensor], FinetuneConfig], torch.optim.Optimizer]


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


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Going on after an interruption: `state` to start from, `save` called every `every` steps.

    every: 0 never. An interrupted and resumed run ends with the bits of an uninterrupted one.
    """

    every: int = 0
    state: TrainingState | None = None
    save: Callable[[TrainingState], None] | None = None

    def at(
        self,
        step: int,
        learned: Mapping[str, Tensor],
        mover: Mover,
        losses: list[float],
        average: DeltaAverage | None,
    ) -> None:
        """Save the state after that step, if it is one of those."""
        if self.save and self.every and step % self.every == 0:
            so_far = torch.tensor(losses, dtype=torch.float64)
            means = average.deltas if average else {}
            self.save(TrainingState.of(step, learned, mover, so_far, means))


def finetune_job(
    config: FinetuneConfig,
    pictures: ConceptSet,
    trained: Iterable[str],
    base: str,
    retained: ConceptSet | None = None,
) -> str:
    """Names a job, so that a state is only resumed by the work it belongs to.

    trained: keys of the weights that may move; base: identifies the model; retained: what must
    stay, if anything.
    """
    kept = retained.digest if retained else ""
    parts = [compact_json(config.recipe()), pictures.digest, *sorted(trained), base, kept]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def finetune(
    denoiser: Denoiser,
    concept_set: ConceptSet,
    config: FinetuneConfig,
    progress: Progress,
    on_step: Callable[[FinetuneStep], None] | None = None,
    *,
    retained: ConceptSet | None = None,
    checkpoints: Checkpoints | None = None,
    make_optimizer: OptimizerMaker | None = None,
    fused: bool = False,
) -> FinetuneResult:
    """Learn what to add to the weights so that the denoiser draws the concept.

    The denoiser's weights are never written; it is left as found by any way out. `progress` is
    called before each part of a step and cancels by raising. Equal seeds on equal machines give
    equal bits. retained: pictures of what must stay, each under its own caption (retention.py).
    make_optimizer: for optimizers that torch does not have. fused: less memory, one backward pass
    more a step, the same result (`FusedBackward`). Raises EmptyMaskError when nothing may move,
    NonFiniteError naming the step, ConfigError for a foreign state, for guidance without a guide in
    the concept set or for a `fused_obstacle`, ShapeMismatchError for sets of different models.
    Loss: mean of (prediction - target)^2 in the denoiser's native prediction, timesteps uniform
    (arXiv 2006.11239, eq. 14; arXiv 2202.00512 for v); the target is the noise's, or with guidance
    that of guided_target.py. With a rank, the moving average is that of the factors.
    """
    checkpoints = checkpoints or Checkpoints()
    _check(concept_set, retained, config, fused)
    with torch.inference_mode(False), torch.enable_grad():
        learned, deltas_of = _start(denoiser, config)
        mover = _mover(learned.values(), config, make_optimizer or _optimizer, fused)
        average = DeltaAverage(learned) if config.ema else None
        done, losses = 0, []
        if checkpoints.state:
            done, losses = checkpoints.state.step, checkpoints.state.losses.tolist()
            checkpoints.state.restore(learned, mover)
            average = DeltaAverage(checkpoints.state.average, done) if config.ema else None
        shown = batches(denoiser, concept_set, config, skip=done)
        with denoiser.attached(deltas_of(learned)) as attachment:
            attachment.hooked = fused
            for step in range(done + 1, config.steps + 1):
                parts = _losses(denoiser, attachment, next(shown), config, step, progress)
                loss = sum(_add(mover, part, config, step) for part in parts)
                if _keeps(retained, config):
                    keeping = denoiser, attachment, concept_set, retained, config, step
                    for kept in retention_losses(*keeping):
                        progress(step - 1, config.steps, f"step {step}, keeping the rest")
                        _add(mover, kept, config, step)
                norm = _move(mover, config, step)
                if average:
                    average.update(learned)
                losses.append(loss)
                if on_step:
                    on_step(FinetuneStep(step, config.steps, loss, norm))
                checkpoints.at(step, learned, mover, losses, average)
        del mover
        with torch.no_grad():
            final = deltas_of(average.deltas if average else learned)
            deltas = {key: final[key].detach().cpu().contiguous() for key in final}
    progress(config.steps, config.steps, f"learned {concept_set.concept}, loss {losses[-1]:.4f}")
    return FinetuneResult(deltas, tuple(losses), config, concept_set.concept, concept_set.digest)


def fused_obstacle(config: FinetuneConfig, retained: ConceptSet | None = None) -> str:
    """Why a fused backward pass cannot be: it is for one loss a step. Empty where it can."""
    if config.accumulation > 1:
        return (
            f"Fine-tune: a fused backward pass takes a batch as one part, but accumulation is "
            f"{config.accumulation}. Set accumulation to 1, with a batch_size that fits into "
            "memory, or do without it."
        )
    if _keeps(retained, config):
        return (
            "Fine-tune: a fused backward pass has no second loss, but there is a retained set. "
            "Disconnect it, set retained_weight to 0, or do without the fused backward pass."
        )
    return ""


def _keeps(retained: ConceptSet | None, config: FinetuneConfig) -> TypeGuard[ConceptSet]:
    return retained is not None and config.retained_weight > 0


def _check(
    concept_set: ConceptSet, retained: ConceptSet | None, config: FinetuneConfig, fused: bool
) -> None:
    if fused and (obstacle := fused_obstacle(config, retained)):
        raise ConfigError(obstacle)
    if config.guidance and concept_set.guide is None:
        raise ConfigError(
            f"Fine-tune: guidance is {config.guidance:g}, but the concept set "
            f"{concept_set.concept!r} does not say which text names the concept. Use Concept Set "
            "from Prompt, write a caption into the node that made it, or set guidance to 0."
        )
    if retained:
        texts = concept_set.contexts, retained.contexts
        check_one_encoder(concept_set.concept, "the retained set", *texts)
        found, wanted = retained.latents.shape[1], concept_set.latents.shape[1]
        if found != wanted:
            raise ShapeMismatchError(
                f"Fine-tune: pictures of {retained.concept!r} have {found} latent channels, those "
                f"of {concept_set.concept!r} have {wanted}. Make both with one model and its VAE.",
                "latents",
                (wanted,),
                (found,),
            )


def _start(
    denoiser: Denoiser, config: FinetuneConfig
) -> tuple[dict[str, Tensor], Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]]:
    """What is learned, by name, and how deltas by weight key follow from it."""
    shapes = {
        key: shape
        for key, shape in sorted(denoiser.weight_shapes().items())
        if config.allows(key, len(shape))
    }
    if not shapes:
        raise EmptyMaskError(
            "Fine-tune: the mask leaves no weight that may move. Choose at least one block."
        )
    if config.rank:
        factors = starting_factors(shapes, config.rank, config.seed, denoiser.device)
        return factors, partial(LowRankDeltas, shapes)
    dense = {
        key: torch.zeros(shape, dtype=torch.float32, device=denoiser.device, requires_grad=True)
        for key, shape in shapes.items()
    }
    return dense, lambda learned: learned


def _mover(
    learned: Iterable[Tensor], config: FinetuneConfig, make: OptimizerMaker, fused: bool
) -> Mover:
    kind = FusedBackward if fused else KeptGradients
    return kind(learned, lambda own: make(own, config), config.gradient_clip)


def _optimizer(learned: list[Tensor], config: FinetuneConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adamw8bit":
        raise ConfigError("8-bit AdamW needs an optimizer made by the host; give make_optimizer.")
    make = partial(
        torch.optim.AdamW,
        learned,
        config.learning_rate,
        config.betas,
        weight_decay=config.weight_decay,
    )
    if learned[0].device.type == "cpu":
        try:
            return make(fused=True)  # reads every weight once where the plain way takes ten passes
        except RuntimeError:  # torch before 2.4 has it for GPUs alone
            pass
    return make(foreach=False)  # True would hold a copy of every weight for a moment


def _losses(
    denoiser: Denoiser,
    attachment: Attachment,
    parts: list[Part],
    config: FinetuneConfig,
    step: int,
    progress: Progress,
) -> Iterator[Tensor]:
    """Of each part of the batch, with gradient; their sum is the batch's."""
    for part in parts:
        progress(step - 1, config.steps, f"step {step} of {config.steps}")
        target = part.target
        if part.guide:
            target = guided_target(denoiser, attachment, part, part.guide, config.guidance)
        predicted = denoiser.predict(part.x_t, part.timesteps, part.context)
        yield (predicted.float() - target).square().mean() / len(parts)


def _add(mover: Mover, loss: Tensor, config: FinetuneConfig, step: int) -> float:
    """The loss's value. Raises NonFiniteError."""
    value = float(loss.detach())
    _check_finite("loss", value, config, step)
    mover.add(loss)
    return value


def _move(mover: Mover, config: FinetuneConfig, step: int) -> float:
    """The optimizer's step at its rate; returns the gradient's norm before it was clipped."""
    norm = float(mover.norm())
    _check_finite("gradient", norm, config, step)
    mover.move(config.rate(step))
    return norm


def _check_finite(what: str, value: float, config: FinetuneConfig, step: int) -> None:
    if not math.isfinite(value):
        raise NonFiniteError(
            f"Fine-tune: the {what} became {value} at step {step} of {config.steps}. "
            "Lower the learning rate, or compute in float32 or bfloat16 instead of float16."
        )
