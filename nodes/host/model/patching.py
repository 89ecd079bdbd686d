"""Clones of a MODEL, with deltas in them as stock weight patches: all of them or none."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import comfy.float
import comfy.model_patcher
import comfy.utils
import torch

from ....tverase_core.errors import BaseMismatchError, KeyMismatchError, listed
from ....tverase_core.vector.erase import Plan
from ....tverase_core.vector.rounding import RoundingLoss, rounding_loss
from .weights import PREFIX, base_reader

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


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


def plain_clone(model: ModelPatcher) -> ModelPatcher:
    """A clone outside dynamic memory management, which ignores wrappers on small weights.

    Raises BaseMismatchError where the host cannot make one.
    """
    if "disable_dynamic" not in inspect.signature(model.clone).parameters:
        return model.clone()
    try:
        return model.clone(disable_dynamic=True)
    except RuntimeError as refused:
        if "non-dynamic delegate" not in str(refused):  # the clone runs a whole loader
            raise
        raise BaseMismatchError(
            "This MODEL's memory is managed by ComfyUI's dynamic VRAM, and the node that loaded it "
            "does not say how to load it without. Load it with the stock Load Checkpoint node, or "
            "start ComfyUI with --disable-dynamic-vram."
        ) from refused


def with_aliases(model: ModelPatcher, plan: Plan) -> Plan:
    """The plan with every name of a weight that several modules share.

    The host patches by name and gives each its own tensor, so a name left out would keep the old
    weight. Raises BaseMismatchError when two names of one weight are to change differently.
    """
    groups: dict[tuple[object, ...], list[str]] = {}
    for key, value in model.model_state_dict().items():
        if value.numel() and not value.is_meta:  # missing weights all lie at 0
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
    """What storing the patched weights as the host does would do to the edit.

    A layer of a scaled or quantised format stores its weight by a method of its own. That finds
    its scale from the largest value, which a sample may lack: it is given that value as well.
    """
    plain, entries = base_reader(model), model.get_key_patches(PREFIX)
    largest: dict[str, torch.Tensor] = {}

    def read(key: str) -> torch.Tensor:
        stored, undo_scale = entries[key][0]
        if stored.is_meta or not _stores_itself(model, key):
            return plain(key)
        # In place, as the host does it: older ones cannot multiply 8-bit values otherwise.
        weight = undo_scale(stored.detach().to(torch.float32, copy=True), inplace=True)
        largest[key] = weight.abs().amax().to("cpu", torch.float32)
        return weight

    def rounded(values: torch.Tensor, key: str, dtype: torch.dtype) -> torch.Tensor:
        if key not in largest:
            return comfy.float.stochastic_rounding(values, dtype, seed=_seed(key))
        stored = _stored(model, key, torch.cat([values, largest[key][None]])[None])
        return stored[0, :-1].to("cpu", torch.float32)

    return rounding_loss(plan, read, rounded)


def _layer_of(model: ModelPatcher, key: str) -> tuple[Any, str]:
    path, _, name = key.rpartition(".")
    return model.model.get_submodule(path), name


def _stores_itself(model: ModelPatcher, key: str) -> bool:
    layer, name = _layer_of(model, key)
    return hasattr(layer, f"set_{name}")


def _stored(model: ModelPatcher, key: str, values: torch.Tensor) -> torch.Tensor:
    """float32 values as they read back once the layer of `key` has stored them. It keeps its own
    weight."""
    layer, name = _layer_of(model, key)
    store = getattr(layer, f"set_{name}")
    if "return_weight" in inspect.signature(store).parameters:
        stored = store(values, seed=_seed(key), return_weight=True)
        return getattr(layer, f"convert_{name}", lambda weight: weight)(stored)
    # Hosts before late 2025: `store` would write into the layer, which other MODELs share.
    scale = getattr(layer, "scale_weight", torch.ones(())).detach().to("cpu", torch.float32)
    small = comfy.float.stochastic_rounding(values / scale, layer.weight.dtype, seed=_seed(key))
    return small.float() * scale


def _seed(key: str) -> int:
    """The host's seed for rounding this weight; newer hosts warn at each call of the old name."""
    known = getattr(comfy.utils, "string_to_seed", None) or comfy.model_patcher.string_to_seed
    return int(known(key))
