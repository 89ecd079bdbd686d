"""Edits that are added when a weight is used, so that no rounding to its storage eats them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

import comfy.model_management
import torch

from ....tverase_core.errors import BaseMismatchError
from ....tverase_core.vector.erase import Plan
from ....tverase_core.vector.split_weight import HALF_TYPES, SplitWeight, added, half_part
from ..app.version import HostTooOldError, host_version
from .patching import patched_clone, plain_clone
from .weights import refuse_quantised, wrappable_shapes

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

INJECTION = "tverase_"  # starts the name of each edit
Place = tuple[str, str]  # path of a module, and its parameter: "weight" or "bias"


def exact_clone(model: ModelPatcher, plan: Plan) -> ModelPatcher:
    """A clone of `model` that computes with W + scale * delta and stores W as it is.

    plan: deltas by key, grouped by their scale. The host takes the edit off the shared modules
    whenever another MODEL uses them, and puts it on again: it is an injection, because a weight
    wrapper would stay behind. Parameters that no layer of the host owns (position tables, some
    norms) become patches. Savers of the host write such a MODEL without the edit.
    Raises HostTooOldError, BaseMismatchError (quantised formats), KeyMismatchError.
    """
    refuse_quantised(model, "Runtime-exact mode")
    known = wrappable_shapes(model)
    loose = {
        scale: {key: delta for key, delta in deltas.items() if key not in known}
        for scale, deltas in plan.items()
    }
    clone = plain_clone(patched_clone(model, {s: deltas for s, deltas in loose.items() if deltas}))
    # It came with the lists of functions that layers call; injections are older.
    if not hasattr(clone, "add_weight_wrapper"):
        raise HostTooOldError(
            f"Runtime-exact mode needs ComfyUI 0.3.15 or newer; this is {host_version()}. Update "
            "ComfyUI, or set precision to patch."
        )
    from comfy.patcher_extension import PatcherInjection

    slots = {
        _place(key): _Slot(delta, scale / _stored_scale(clone, key))
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


def exact_edits(model: ModelPatcher) -> list[dict[str, tuple[torch.Tensor, float]]]:
    """(delta, scale) by key of each runtime-exact edit of this MODEL, the oldest first."""
    injections = getattr(model, "injections", {})  # ComfyUI has them since 0.3.7
    return [
        injection.inject.__self__.content()
        for name, listed in injections.items()
        if name.startswith(INJECTION)
        for injection in listed
    ]


class _Slot:
    """The function that the host calls on one parameter at each use: W -> W + scale * delta."""

    def __init__(self, delta: torch.Tensor, scale: float):
        self._delta, self._scale = delta, scale
        self._ready: tuple[torch.Tensor, int] | None = None
        self.keep = False

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        if weight.dtype not in HALF_TYPES or isinstance(weight, SplitWeight):
            return added(weight, self._delta, self._scale)
        if self._ready is None or self._ready[0].dtype != weight.dtype:
            delta = self._delta.to(weight.device, non_blocking=True)
            ready = half_part(delta, self._scale, weight.dtype)
            if not self.keep:
                return SplitWeight.from_parts(weight, *ready)
            self._ready = ready
        return SplitWeight.from_parts(weight, *self._ready)

    def content(self) -> tuple[torch.Tensor, float]:
        return self._delta, self._scale

    def bytes(self) -> int:
        return 2 * self._delta.numel()

    def forget(self) -> None:
        self._ready = None


class _Edit:
    """All slots of one MODEL. Both methods may be called twice: clones share it."""

    def __init__(self, slots: Mapping[Place, _Slot]):
        self._slots = slots

    def content(self) -> dict[str, tuple[torch.Tensor, float]]:
        return {".".join(place): slot.content() for place, slot in self._slots.items()}

    def inject(self, patcher: ModelPatcher) -> None:
        self.eject(patcher)
        device = patcher.load_device
        free = comfy.model_management.get_free_memory(device)
        spare = free - 2 * comfy.model_management.minimum_inference_memory()
        keep = sum(slot.bytes() for slot in self._slots.values()) < spare
        for (path, name), slot in self._slots.items():
            slot.keep = keep and device.type != "cpu"
            module = patcher.model.get_submodule(path)
            # A new list: the class's own is shared by all layers.
            functions = [*getattr(module, f"{name}_function"), slot]
            setattr(module, f"{name}_function", functions)

    def eject(self, patcher: ModelPatcher) -> None:
        for (path, name), slot in self._slots.items():
            slot.forget()
            module = patcher.model.get_submodule(path)
            functions = getattr(module, f"{name}_function")
            if slot in functions:
                setattr(module, f"{name}_function", [f for f in functions if f is not slot])


def _place(key: str) -> Place:
    path, _, name = key.rpartition(".")
    return path, name


def _stored_scale(model: ModelPatcher, key: str) -> float:
    """What the layer multiplies its stored weight by; 1 but for scaled 8-bit formats."""
    path, name = _place(key)
    module = model.model.get_submodule(path)
    factor = getattr(module, "scale_weight", None) if name == "weight" else None
    if factor is None:
        return 1.0
    if factor.numel() != 1:
        raise BaseMismatchError(
            f"{key}: this model's format has {factor.numel()} scales for one weight, which "
            "runtime-exact mode does not know. Set precision to patch."
        )
    return float(factor)
