"""Edits that act when a MODEL computes, and that none of its stored weights shows."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import torch

from ....tverase_core.errors import BaseMismatchError, listed
from ..storage.view import PREFIX
from .exact import INJECTION
from .weights import patched_keys

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def edits_at_use(model: ModelPatcher) -> list[str]:
    """Their names: the host's injections (a bypassed LoRA, an erasure in runtime_exact mode), the
    weights that a wrapper changes (a LoRA in training), and layers that were exchanged."""
    names = ["runtime_exact" if n.startswith(INJECTION) else n for n in _held(model, "injections")]
    names += _held(model, "weight_wrapper_patches")  # since ComfyUI 0.3.41
    # Functions in an exchanged place, such as another attention, compute with the same weights. A
    # weight that is exchanged because patches pass it over has its edit among the patches too.
    names += [
        name
        for name, part in model.object_patches.items()
        if name.startswith(PREFIX)
        and isinstance(part, (torch.nn.Module, torch.Tensor))
        and name not in model.patches
    ]
    return names


def without_edits(model: ModelPatcher) -> ModelPatcher | None:
    """A clone that computes with the loaded weights alone; None when the MODEL carries no edit."""
    if not (patched_keys(model) or edits_at_use(model)):
        return None
    clone = model.clone()
    clone.patches = {}
    for kind in ("injections", "weight_wrapper_patches"):
        if hasattr(clone, kind):
            setattr(clone, kind, {})
    clone.object_patches = {
        name: part for name, part in clone.object_patches.items() if not name.startswith(PREFIX)
    }
    clone.patches_uuid = uuid.uuid4()  # by which the host knows that other weights are wanted
    return clone


def _held(model: ModelPatcher, kind: str) -> list[str]:
    return list(getattr(model, kind, ()))


def refuse_edits_at_use(model: ModelPatcher, what: str) -> None:
    """Raise BaseMismatchError when there are any. what: how the sentence begins."""
    names = edits_at_use(model)
    if names:
        raise BaseMismatchError(
            f"{what} reads weights, but this MODEL carries edits that act when it computes and "
            f"that its weights do not show ({listed(names)}): the result would lack them. For an "
            "erasure in runtime_exact mode set precision to patch in Apply Negated TV; for Train "
            "LoRA connect its `lora`, not its `model`, through the stock Load LoRA Model node."
        )
