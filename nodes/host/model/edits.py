"""A task vector against a model: all refusals, then its masked deltas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ....tverase_core.errors import BaseMismatchError
from ....tverase_core.model.block_mask import BlockMask
from ....tverase_core.model.fingerprint import (
    BaseFingerprint,
    base_note,
    check_base,
    key_digest,
)
from ....tverase_core.model.layout import TEXT_PREFIX
from ....tverase_core.vector.erase import Plan, masked_deltas
from ....tverase_core.vector.pruned import PRUNED, pruned_of
from ....tverase_core.vector.task_vector import TaskVector
from ..storage.view import WeightView, refuse_unreadable, view_of
from .exact import exact_edits
from .siblings import FIRST, of_text_to_image, widened
from .weights import base_weight, effective_weight, fingerprint

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def checked_deltas(
    model: ModelPatcher,
    task_vector: TaskVector,
    block_mask: BlockMask | None,
    *,
    allow_other_weights: bool,
) -> Plan:
    """`masked_deltas` for this model; no mask means all blocks.

    Raises what `masked_deltas` and `check_base` raise: keys, shapes, empty mask, other base; and
    BaseMismatchError for a vector that changes a text encoder.
    """
    text = [key for key in task_vector.deltas if key.startswith(TEXT_PREFIX)]
    if text:
        raise BaseMismatchError(
            f"This task vector changes {len(text)} weights of a text encoder, which a MODEL does "
            "not have. Use Apply Negated TV to CLIP."
        )
    mask = block_mask or BlockMask.full()
    view = view_of(model)
    shapes = view.shapes
    refuse_unreadable(model, task_vector.deltas)
    channels = model.get_model_object("latent_format").latent_channels
    sibling = of_text_to_image(shapes, channels, task_vector, allow_other_weights)
    base = fingerprint(model, task_vector.provenance.prediction or "epsilon")
    if view.scales:
        task_vector, base = _of_weights_alone(task_vector, base, view)
    deltas = masked_deltas(task_vector, mask, view.layout, sibling or shapes)
    if sibling is not None:
        wide = shapes[FIRST][1]
        return {
            factor: {k: widened(d, wide) if k == FIRST else d for k, d in group.items()}
            for factor, group in deltas.items()
        }
    check_base(task_vector.base, base, allow_other_weights=allow_other_weights)
    if task_vector.provenance.content == PRUNED:
        return {factor: _pruned_now(model, group) for factor, group in deltas.items()}
    return deltas


def what_base(model: ModelPatcher, task_vector: TaskVector) -> str:
    """`base_note` of a vector that `checked_deltas` has let through."""
    base = fingerprint(model, task_vector.provenance.prediction or "epsilon")
    own = task_vector.base
    return base_note(own.compare(base), own, base, own.apart(base, view_of(model).shapes))


def _of_weights_alone(
    task_vector: TaskVector, base: BaseFingerprint, view: WeightView
) -> tuple[TaskVector, BaseFingerprint]:
    """Once the scales beside 8-bit weights counted as weights: they were in a vector, and in the
    digest of its base, by which such a vector is recognised here."""
    former = key_digest({**view.shapes, **view.scales})
    if task_vector.base.key_digest != former:
        return task_vector, base
    weights = {k: d for k, d in task_vector.deltas.items() if k not in view.scales}
    return replace(task_vector, deltas=weights), replace(base, key_digest=former)


def _pruned_now(model: ModelPatcher, deltas: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Pruning takes what is there: of a weight that this MODEL has edited, the edited value."""
    edits, made = exact_edits(model), dict(deltas)
    for key, delta in deltas.items():
        patches, at_use = model.patches.get(key), [edit[key] for edit in edits if key in edit]
        if patches or at_use:
            weight = base_weight(model, key).to("cpu", torch.float32)
            now = effective_weight(model, key)
            for added, scale in at_use:
                now = torch.add(now, added.float(), alpha=scale)
            made[key] = pruned_of(delta.float(), weight, now)
    return made


def on_device(deltas: Plan, device: torch.device) -> dict[str, torch.Tensor]:
    """factor * delta by key, float32 on `device`: for `checked_deltas`, mask * delta, towards the
    concept. They need `plan_bytes` there: make the room first."""
    with torch.inference_mode(False):
        return {
            key: delta.to(device).float() * factor
            for factor, group in deltas.items()
            for key, delta in group.items()
        }


def plan_bytes(deltas: Plan) -> int:
    """What `on_device` takes."""
    return sum(4 * delta.numel() for group in deltas.values() for delta in group.values())
