"""Putting deltas into a MODEL as stock weight patches, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import comfy.float
import comfy.model_patcher
import torch

from ...tverase_core.errors import BaseMismatchError, KeyMismatchError, listed
from ...tverase_core.rounding import RoundingLoss, rounding_loss
from .weights import base_reader

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
    for scale, deltas in with_aliases(model, plan).items():
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


def with_aliases(model: ModelPatcher, plan: Plan) -> Plan:
    """The plan with every name of a weight that several modules share.

    The host patches by name and gives each its own tensor, so a name left out would keep the old
    weight. Raises BaseMismatchError when two names of one weight are to change differently.
    """
    groups: dict[tuple[object, ...], list[str]] = {}
    for key, value in model.model_state_dict().items():
        if value.numel():
            place = (value.device, value.data_ptr(), value.shape, value.stride())
            groups.setdefault(place, []).append(key)
    scales = {key: scale for scale, deltas in plan.items() for key in deltas}
    whole = {scale: dict(deltas) for scale, deltas in plan.items()}
    for names in groups.values():
        edited = [name for name in names if name in scales] if len(names) > 1 else []
        for name in names if edited else ():
            first = edited[0]
            delta = plan[scales[first]][first]
            if name not in scales:
                whole[scales[first]][name] = delta
            elif scales[name] != scales[first] or not torch.equal(plan[scales[name]][name], delta):
                raise BaseMismatchError(
                    f"{first} and {name} are one weight in this model, but would change "
                    "differently. Give both the same mask, or use the vector's own base model."
                )
    return whole


def measure_rounding(model: ModelPatcher, plan: Plan) -> RoundingLoss:
    """What storing the patched weights as the host does would do to the edit."""

    def rounded(values: torch.Tensor, key: str, dtype: torch.dtype) -> torch.Tensor:
        seed = comfy.model_patcher.string_to_seed(key)
        return comfy.float.stochastic_rounding(values, dtype, seed=seed)

    return rounding_loss(plan, base_reader(model), rounded)
