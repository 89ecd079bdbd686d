"""Whether a fine-tune fits into memory, and what would make it fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import comfy.model_management
import psutil

from ....tverase_core.concept_set import ConceptSet
from ....tverase_core.errors import ConfigError
from ....tverase_core.finetuning.config import FinetuneConfig
from ....tverase_core.finetuning.memory_plan import GIB, MemoryPlan, memory_plan
from ....tverase_core.finetuning.train import fused_obstacle
from ..model.weights import trainable_shapes
from .activations import activations

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

SMALL_RANK = 16  # of the advice
LARGE = 6e9  # weights; AdamW on all of them would need about 100 GB


def automatic_rank(model: ModelPatcher) -> int | None:
    """The rank to train where nobody chose one: None, for full weights, but for large models."""
    weights = sum(shape.numel() for shape in trainable_shapes(model).values())
    return SMALL_RANK if weights >= LARGE else None


def tuning_plan(
    model: ModelPatcher,
    pictures: ConceptSet,
    config: FinetuneConfig,
    recompute: bool,
    fused: bool = False,
) -> MemoryPlan:
    """Estimate of a fine-tune of the weights that `config` allows. fused: the backward pass."""
    return _planner(model, pictures, config)(recompute=recompute, fused=fused)


def _planner(
    model: ModelPatcher, pictures: ConceptSet, config: FinetuneConfig
) -> Callable[..., MemoryPlan]:
    """Gives the plan of each way (recompute, fused), by one dry run for all."""
    shapes = trainable_shapes(model)
    trained = {key for key, shape in shapes.items() if config.allows(key, len(shape))}
    part = config.batch_size // config.accumulation
    counted = activations(
        model,
        (part, *pictures.latents.shape[1:]),
        trained.__contains__,
        pictures.contexts,
        low_rank=config.rank is not None,
    )
    stay = model.load_device.type == "cpu" and config.rank is None  # network/room.py
    return partial(memory_plan, shapes, config, counted, gradients_stay=stay)


@dataclass(frozen=True, slots=True)
class Saving:
    """What may be done for less memory, for more time: True always, False never, None when nothing
    else fits. recompute: blocks in the backward pass. fused: the optimizer's steps in it."""

    recompute: bool | None = None
    fused: bool | None = None

    @classmethod
    def of(
        cls,
        recompute: bool | None,
        fused: bool | None,
        config: FinetuneConfig,
        retained: ConceptSet | None,
    ) -> Saving:
        """Raises ConfigError where `fused` is asked for and cannot be."""
        obstacle = fused_obstacle(config, retained)
        if fused and obstacle:
            raise ConfigError(obstacle)
        return cls(recompute, False if obstacle else fused)

    def ways(self) -> Iterator[tuple[bool, bool]]:
        """(recompute, fused) in the order of the time that they take: 1, 4/3, 5/3, 7/3."""
        for fused, recompute in product((False, True), repeat=2):
            if self.recompute in (None, recompute) and self.fused in (None, fused):
                yield recompute, fused


def fitting_plan(
    model: ModelPatcher, pictures: ConceptSet, config: FinetuneConfig, saving: Saving
) -> MemoryPlan:
    """The plan that will run: the fastest that fits.

    Raises MemoryError with the estimate, what can be had, and what would need less.
    """
    plan_of = _planner(model, pictures, config)
    for recompute, fused in saving.ways():
        plan = plan_of(recompute=recompute, fused=fused)
        missing = _missing(model, plan)
        if missing is None:
            return plan
    advice = ", ".join(
        f"{words} ({tuning_plan(model, pictures, changed, True, fused).device / GIB:.1f} GiB)"
        for words, changed, fused in _smaller(config)
    )
    raise MemoryError(
        f"Concept Fine-tune needs about {missing}. Choose fewer blocks with a block mask, smaller "
        f"pictures, or one of these with gradient checkpointing: {advice}."
    )


def _smaller(config: FinetuneConfig) -> Iterator[tuple[str, FinetuneConfig, bool]]:
    """Settings that need less: what to change, what it gives, whether fused."""
    one = {"accumulation": config.batch_size}
    yield f"accumulation {config.batch_size}", replace(config, **one), False
    if not config.rank:
        part = config.batch_size // config.accumulation
        words = f"batch_size {part}, accumulation 1, no retained set and fused_backward"
        yield words, replace(config, batch_size=part, accumulation=1), True
    yield f"rank {SMALL_RANK}", replace(config, rank=SMALL_RANK), False
    yield "accumulation and rank", replace(config, **one, rank=SMALL_RANK), False


def _missing(model: ModelPatcher, plan: MemoryPlan) -> str | None:
    """What there is too little of, in words, or None when the plan fits."""
    device, free = model.load_device, psutil.virtual_memory().available
    if device.type == "cpu":
        free = comfy.model_management.get_free_memory(device)
        needs = [(plan.on(device), free, "main memory")]
    else:
        # The host unloads other models for this one.
        total = comfy.model_management.get_total_memory(device)
        needs = [
            (model.model_size() + plan.device, total, f"{device.type} memory"),
            (plan.host, free, "main memory"),
        ]
    for needed, had, where in needs:
        if needed > had:
            return f"{needed / GIB:.1f} GiB of {where}, {had / GIB:.1f} GiB can be had"
    return None
