"""A task vector against a model: all refusals, then patches or deltas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from ....tverase_core.errors import BaseMismatchError
from ....tverase_core.model.block_mask import BlockMask
from ....tverase_core.model.fingerprint import check_base
from ....tverase_core.model.layout import TEXT_PREFIX, detect_layout
from ....tverase_core.vector.erase import plan_patches
from ....tverase_core.vector.pruned import PRUNED, pruned_of
from ....tverase_core.vector.task_vector import TaskVector
from .computed import computed
from .exact import exact_edits
from .patching import Plan
from .siblings import FIRST, of_text_to_image, widened
from .weights import PREFIX, base_weight, fingerprint, model_shapes

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def checked_plan(
    model: ModelPatcher,
    task_vector: TaskVector,
    strength: float,
    block_mask: BlockMask | None,
    *,
    allow_other_weights: bool,
) -> dict[float, dict[str, torch.Tensor]]:
    """`plan_patches` for this model; no mask means all blocks.

    Raises what `plan_patches` and `check_base` raise: keys, shapes, empty mask, other base; and
    BaseMismatchError for a vector that changes a text encoder.
    """
    text = [key for key in task_vector.deltas if key.startswith(TEXT_PREFIX)]
    if text:
        raise BaseMismatchError(
            f"This task vector changes {len(text)} weights of a text encoder, which a MODEL does "
            "not have. Use Apply Negated TV to CLIP."
        )
    mask = block_mask or BlockMask.full()
    shapes = model_shapes(model)
    channels = model.get_model_object("latent_format").latent_channels
    sibling = of_text_to_image(shapes, channels, task_vector, allow_other_weights)
    if sibling is not None:
        plan = plan_patches(task_vector, strength, mask, detect_layout(shapes), sibling)
        for deltas in plan.values():
            if FIRST in deltas:
                deltas[FIRST] = widened(deltas[FIRST], shapes[FIRST][1])
        return plan
    plan = plan_patches(task_vector, strength, mask, detect_layout(shapes), shapes)
    base = fingerprint(model, task_vector.provenance.prediction or "epsilon")
    check_base(task_vector.base, base, allow_different_weights=allow_other_weights)
    if task_vector.provenance.content == PRUNED:
        return {scale: _pruned_now(model, deltas) for scale, deltas in plan.items()}
    return plan


def _pruned_now(model: ModelPatcher, deltas: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Pruning takes what is there: of a weight that this MODEL has edited, the edited value."""
    edits, entries, made = exact_edits(model), model.get_key_patches(PREFIX), dict(deltas)
    for key, delta in deltas.items():
        patches, at_use = entries[key][1:], [edit[key] for edit in edits if key in edit]
        if patches or at_use:
            weight = base_weight(entries[key]).detach().to("cpu", torch.float32)
            now = computed(patches, weight.clone(), key)
            for added, scale in at_use:
                now = torch.add(now, added.float(), alpha=scale)
            made[key] = pruned_of(delta.float(), weight, now)
    return made


def masked_deltas(plan: Plan, device: torch.device) -> dict[str, torch.Tensor]:
    """mask * delta by key, towards the concept, float32 on `device`.

    plan: `checked_plan` at strength 1. They need `plan_bytes` there: make the room first.
    """
    with torch.inference_mode(False):
        return {
            key: delta.to(device).float() * abs(scale)
            for scale, deltas in plan.items()
            for key, delta in deltas.items()
        }


def plan_bytes(plan: Plan) -> int:
    """What `masked_deltas` takes."""
    return sum(4 * delta.numel() for deltas in plan.values() for delta in deltas.values())
