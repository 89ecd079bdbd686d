"""Clones of a MODEL, with deltas in them as stock weight patches: all of them or none."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import comfy.float
import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch

from ....tverase_core.errors import BaseMismatchError, KeyMismatchError, listed
from ....tverase_core.model.fingerprint import sampled
from ....tverase_core.vector.erase import Plan
from ....tverase_core.vector.rounding import Comparison, RoundingLoss
from ..storage.formats import layer_of, restored, unpacked_at_use, values
from ..storage.view import PREFIX, view_of
from .weights import base_weight, effective_weight, stored_weight

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

MEASURED, ROWS = 24, 32  # how many packed weights, and rows of each, the rounding is measured on


def patched_clone(model: ModelPatcher, plan: Plan, prefix: str = PREFIX) -> ModelPatcher:
    """A clone of `model` in which each weight is W + scale * delta.

    plan: deltas by key, grouped by their scale. The input MODEL and its weights are not touched;
    the host computes the patched weights when it next loads the clone. Parameters that its patches
    pass over are exchanged whole instead.
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
    for key in view_of(model, prefix).passed_over & clone.patches.keys():
        stored = stored_weight(model, key)
        edited = effective_weight(clone, key).to(stored)
        if isinstance(stored, torch.nn.Parameter):  # else a buffer, which stays one
            edited = torch.nn.Parameter(edited, requires_grad=False)
        clone.add_object_patch(key, edited)
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
            "does not say how to load it without. Load it with the stock Load Checkpoint or Load "
            "Diffusion Model node, or start ComfyUI with --disable-dynamic-vram."
        ) from refused


def let_go(clone: ModelPatcher) -> None:
    """Unload a clone and take back what loading it did to the layers that all clones share: a stale
    wrapper would survive a partial load, and a layer would go on casting."""
    with torch.inference_mode():
        clone.detach()
    for module in clone.model.modules():
        comfy.model_patcher.wipe_lowvram_weight(module)


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


def measure_rounding(model: ModelPatcher, plan: Plan, prefix: str = PREFIX) -> RoundingLoss:
    """What storing the patched weights as the host does would do to the edit.

    plan: by the host's keys. Of a plain weight a sample is rounded. Packed formats find their
    scales in whole rows and in the largest value: some rows, that of the largest value among them,
    are stored by the layer's own method, and this for at most MEASURED weights.
    """
    view = view_of(model, prefix)
    packed = [key for deltas in plan.values() for key in deltas if key in view.packed]
    chosen = set(packed[:: -(-len(packed) // MEASURED) or 1])
    numbers = sum(view.shapes[key].numel() for key in packed)
    stands_for = numbers / max(1, sum(view.shapes[key].numel() for key in chosen))
    total = Comparison()
    for scale, deltas in plan.items():
        for key, delta in deltas.items():
            if key in chosen:
                meant, real = _packed_change(model, key, scale, delta)
            elif key not in view.packed:
                meant, real = _plain_change(model, key, scale, delta)
            else:
                continue
            share = stands_for if key in chosen else 1.0
            total.add(meant, real, share * delta.numel() / max(1, meant.numel()))
    return total.loss()


def _plain_change(
    model: ModelPatcher, key: str, scale: float, delta: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(meant, real) change of a sample of the weight, float32 on the CPU."""
    stored = sampled(base_weight(model, key))
    before, meant = stored.to("cpu", torch.float32), scale * sampled(delta).to("cpu", torch.float32)
    added = (before + meant).to(_patch_dtype(model))
    after = comfy.float.stochastic_rounding(added, stored.dtype, seed=_seed(key))
    return meant, after.to(torch.float32) - before


def _packed_change(
    model: ModelPatcher, key: str, scale: float, delta: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(meant, real) change of some rows of the weight, float32 on the host's load device."""
    layer, name = layer_of(model.model, key)
    stored = stored_weight(model, key).to(model.load_device)
    before = values(layer, name, stored)
    meant = scale * delta.to(before.device, torch.float32)
    if before.ndim == 2:
        rows = torch.arange(0, len(before), -(-len(before) // ROWS), device=before.device)
        largest = (before + meant).abs().amax(1).argmax()
        rows = torch.cat([rows, largest[None]]).unique()
        before, meant = before[rows], meant[rows]
    if unpacked_at_use(stored):
        kind = model.model.manual_cast_dtype or model.model.get_dtype()
        before = before.to(kind)
        return meant, (before + meant.to(kind)).float() - before.float()
    added = (before + meant).to(_patch_dtype(model))
    return meant, restored(layer, name, added, _seed(key)) - before


def _patch_dtype(model: ModelPatcher) -> torch.dtype:
    """What the host adds patches in; since 0.4 half precision where the device is fast at it."""
    known = getattr(comfy.model_management, "lora_compute_dtype", None)
    return torch.float32 if known is None else known(model.load_device)


def _seed(key: str) -> int:
    """The host's seed for rounding this weight; newer hosts warn at each call of the old name."""
    known = getattr(comfy.utils, "string_to_seed", None) or comfy.model_patcher.string_to_seed
    return int(known(key))
