"""Putting deltas into a MODEL as stock weight patches, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from ...tverase_core.errors import KeyMismatchError, listed

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

Plan = Mapping[float, Mapping[str, torch.Tensor]]


def patched_clone(model: ModelPatcher, plan: Plan) -> ModelPatcher:
    """A clone of `model` in which each weight is W + scale * delta.

    plan: deltas by key, grouped by their scale. The input MODEL and its weights are not touched;
    the host computes the patched weights when it next loads the clone.
    Raises KeyMismatchError when the host does not accept every key.
    """
    clone = model.clone()
    for scale, deltas in plan.items():
        patches = {key: ("diff", (delta,)) for key, delta in deltas.items()}
        accepted = set(clone.add_patches(patches, strength_patch=scale))
        refused = sorted(set(patches) - accepted)
        if refused:
            raise KeyMismatchError(
                f"The model took {len(accepted)} of {len(patches)} weights and refused "
                f"{listed(refused)}. Nothing was changed. Use the model family the task vector "
                "was made from.",
                missing=refused,
            )
    return clone
