"""Whether a fine-tune fits into memory, and what would make it fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import comfy.model_management
import psutil

from ....tverase_core.concept_set import ConceptSet
from ....tverase_core.finetuning.config import FinetuneConfig
from ....tverase_core.finetuning.memory_plan import GIB, MemoryPlan, memory_plan
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
    model: ModelPatcher, pictures: ConceptSet, config: FinetuneConfig, recompute: bool
) -> MemoryPlan:
    """Estimate of a fine-tune of the weights that `config` allows."""
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
    return memory_plan(shapes, config, counted, recompute, stay)


def fitting_plan(
    model: ModelPatcher, pictures: ConceptSet, config: FinetuneConfig, recompute: bool | None
) -> MemoryPlan:
    """The plan that will run. recompute: None recomputes when nothing else fits.

    Raises MemoryError with the estimate, what can be had, and what would need less.
    """
    plan = tuning_plan(model, pictures, config, bool(recompute))
    if _missing(model, plan) is None:
        return plan
    if recompute is None:
        plan = tuning_plan(model, pictures, config, True)
        if _missing(model, plan) is None:
            return plan
    missing = _missing(model, plan)
    advice = ", ".join(
        f"{words} ({tuning_plan(model, pictures, changed, True).device / GIB:.1f} GiB)"
        for words, changed in _smaller(config).items()
    )
    raise MemoryError(
        f"Concept Fine-tune needs about {missing}. Choose fewer blocks with a block mask, smaller "
        f"pictures, or one of these with gradient checkpointing: {advice}."
    )


def _smaller(config: FinetuneConfig) -> dict[str, FinetuneConfig]:
    """Settings that need less, by what to change."""
    one = {"accumulation": config.batch_size}
    return {
        f"accumulation {config.batch_size}": replace(config, **one),
        f"rank {SMALL_RANK}": replace(config, rank=SMALL_RANK),
        "both": replace(config, **one, rank=SMALL_RANK),
    }


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
