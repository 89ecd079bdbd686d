"""Edits that are added when a weight is used, so that no rounding to its storage eats them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch

from ....tverase_core.errors import BaseMismatchError
from ....tverase_core.vector.at_use import AddedAtUse
from ....tverase_core.vector.erase import Plan
from ....tverase_core.vector.rounding import LOSS_TO_WARN
from ..app.version import HostTooOldError, host_version
from ..storage.formats import layer_of, stored_scale, unpacked_at_use
from ..storage.view import PREFIX, view_of
from .patching import measure_rounding, patched_clone, plain_clone

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

INJECTION = "tverase_"  # starts the name of each edit


def exact_clone(model: ModelPatcher, plan: Plan, prefix: str = PREFIX) -> ModelPatcher:
    """A clone of `model` that computes with W + scale * delta and stores W as it is.

    plan: deltas by the host's key, grouped by their scale. The host unpacks quantised weights
    before it calls functions on them, so that their format takes nothing of the edit. It takes the
    edit off the shared modules whenever another MODEL uses them, and puts it on again: it is an
    injection, because a weight wrapper would stay behind. Parameters that no layer of the host
    owns (position tables, some norms) become patches. Savers of the host write such a MODEL
    without the edit.
    Raises HostTooOldError, BaseMismatchError (`plain_clone`), KeyMismatchError.
    """
    known = view_of(model, prefix).usable
    loose = {
        scale: {key: delta for key, delta in deltas.items() if key not in known}
        for scale, deltas in plan.items()
    }
    patches = {scale: deltas for scale, deltas in loose.items() if deltas}
    clone = plain_clone(patched_clone(model, patches, prefix))
    # It came with the lists of functions that layers call; injections are older.
    if not hasattr(clone, "add_weight_wrapper"):
        raise HostTooOldError(
            f"Runtime-exact mode needs ComfyUI 0.3.15 or newer; this is {host_version()}. Update "
            "ComfyUI, or set precision to patch."
        )
    from comfy.patcher_extension import PatcherInjection

    slots = {
        key: _slot(clone, key, scale, delta)
        for scale, deltas in plan.items()
        for key, delta in deltas.items()
        if key in known
    }
    edit = _Edit(slots)
    # The name is unique because ComfyUI takes clones with equal names for the same model.
    clone.set_injections(
        f"{INJECTION}{uuid.uuid4().hex}", [PatcherInjection(edit.inject, edit.eject)]
    )
    return clone


def edited_clone(
    model: ModelPatcher, plan: Plan, precision: str, prefix: str = PREFIX
) -> tuple[ModelPatcher, str]:
    """(the clone with the plan in it, what the user should know).

    precision: "patch", "runtime_exact", or "auto": patches, unless storing them would change the
    edit by more than LOSS_TO_WARN of its length and the edit can be made at use. Advice names
    runtime_exact only where it can be had. Raises what `patched_clone` and `exact_clone` raise.
    """
    if precision == "runtime_exact":
        return exact_clone(model, plan, prefix), ""
    edited, loss = patched_clone(model, plan, prefix), measure_rounding(model, plan, prefix)
    if loss.lost <= LOSS_TO_WARN:
        return edited, f"auto: patch, {loss.sentence()}." if precision == "auto" else ""
    try:
        exact = exact_clone(model, plan, prefix)
    except (BaseMismatchError, HostTooOldError) as refused:
        return edited, f"Warning: {loss.sentence()}. runtime_exact cannot be had here: {refused}"
    if precision == "patch":
        way = "Set precision to runtime_exact to keep all of it."
        return edited, f"Warning: {loss.sentence()}. {way}"
    return exact, (
        f"auto: runtime_exact, because {loss.sentence()}. To save or export the MODEL set "
        "precision to patch."
    )


def exact_edits(model: ModelPatcher) -> list[dict[str, tuple[torch.Tensor, float]]]:
    """(delta, scale) by key of each runtime-exact edit of this MODEL, the oldest first."""
    injections = getattr(model, "injections", {})  # ComfyUI has them since 0.3.7
    return [
        injection.inject.__self__.content()
        for name, listed in injections.items()
        if name.startswith(INJECTION)
        for injection in listed
    ]


class _Edit:
    """All functions of one MODEL, by key. Both methods may be called twice: clones share it."""

    def __init__(self, slots: Mapping[str, AddedAtUse]):
        self._slots = slots

    def content(self) -> dict[str, tuple[torch.Tensor, float]]:
        return {key: (slot.delta, slot.scale) for key, slot in self._slots.items()}

    def inject(self, patcher: ModelPatcher) -> None:
        self.eject(patcher)
        free = comfy.model_management.get_free_memory(patcher.load_device)
        spare = free - 2 * comfy.model_management.minimum_inference_memory()
        keep = sum(slot.bytes() for slot in self._slots.values()) < spare
        for key, slot in self._slots.items():
            slot.keep = keep
            layer, name = layer_of(patcher.model, key)
            # A new list: the class's own is shared by all layers.
            functions = [*getattr(layer, f"{name}_function"), _Use(slot, layer, name)]
            setattr(layer, f"{name}_function", functions)
            if unpacked_at_use(getattr(layer, name)):
                layer.cast_bias_weight = partial(_cast_with_uses, layer)

    def eject(self, patcher: ModelPatcher) -> None:
        for key, slot in self._slots.items():
            slot.forget()
            layer, name = layer_of(patcher.model, key)
            functions = getattr(layer, f"{name}_function")
            left = [f for f in functions if not (isinstance(f, _Use) and f.slot is slot)]
            if len(left) < len(functions):
                setattr(layer, f"{name}_function", left)
            if not any(isinstance(f, _Use) for f in [*layer.weight_function, *layer.bias_function]):
                vars(layer).pop("cast_bias_weight", None)


class _Use:
    """What the host calls: the function, and the parameter that it must not write to."""

    def __init__(self, slot: AddedAtUse, layer: torch.nn.Module, name: str):
        self.slot, self._layer, self._name = slot, layer, name

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        return self.slot(weight, getattr(self._layer, self._name))


def _cast_with_uses(layer: Any, *given: Any, **options: Any) -> tuple[Any, Any]:
    """Layers that unpack their weights themselves (ComfyUI-GGUF) look at no functions."""
    weight, bias = type(layer).cast_bias_weight(layer, *given, **options)
    for use in (f for f in layer.weight_function if isinstance(f, _Use)):
        weight = use(weight)
    for use in (f for f in layer.bias_function if isinstance(f, _Use) and bias is not None):
        bias = use(bias)
    return weight, bias


def _slot(model: ModelPatcher, key: str, scale: float, delta: torch.Tensor) -> AddedAtUse:
    layer, name = layer_of(model.model, key)
    linear = hasattr(layer, "in_features") and delta.ndim == 2
    convolves = getattr(layer, "groups", 0) == 1 and not getattr(layer, "transposed", True)
    thin = name == "weight" and (linear or (convolves and delta.ndim == 4))
    return AddedAtUse(delta, scale / stored_scale(layer, name), thin=thin)
