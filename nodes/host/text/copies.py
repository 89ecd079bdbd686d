"""A text model of our own: the host's modules copied, its weights shared."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import comfy.model_patcher
import torch

from ....tverase_core.errors import BaseMismatchError
from ..model.weights import effective_weight, stored_weight
from ..storage.formats import is_packed, layer_of, stored_as, values
from ..storage.view import view_of

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

# Attributes of modules in which ComfyUI's dynamic memory management (0.12 and newer) keeps pointers
# into memory of its own: they cannot be copied, or a copy frees the memory a second time.
HOSTS_OWN = re.compile(
    r"dynamic_\w+|_v|_v_\w+|_pins?|_pin_\w+|_prefetch|_comfy_graph|(weight|bias)_lowvram_function"
)


def private_copy(clip: Any, dtype: torch.dtype | None = None) -> ModelPatcher:
    """The text model with the CLIP's own patches in it, apart from autograd's and the host's doings
    with the shared one, ready for gradients to pass and to be loaded.

    dtype: None leaves weights as the host holds them, quantised or half, and shares their memory
    but for patched ones (float32); a dtype makes all of them anew. Raises BaseMismatchError for a
    patched or a converted weight of 8 bits or fewer.
    """
    made = _copied(clip.cond_stage_model)
    known = view_of(clip.patcher, "").shapes
    for name, module in made.named_modules():
        comfy.model_patcher.wipe_lowvram_weight(module)
        for own, held in list(module._parameters.items()):
            if held is not None:
                key = f"{name}.{own}" if name else own
                value = _value(clip.patcher, key, dtype) if key in known else held.detach()
                if own == "scale_weight" and dtype is not None:
                    value = torch.ones_like(value)  # the weights are scaled already
                module._parameters[own] = torch.nn.Parameter(_own(value, dtype), False)
    return comfy.model_patcher.ModelPatcher(
        made.eval(), clip.patcher.load_device, clip.patcher.offload_device
    )


def _value(patcher: ModelPatcher, key: str, dtype: torch.dtype | None) -> torch.Tensor:
    layer, name = layer_of(patcher.model, key)
    stored = stored_weight(patcher, key)
    if stored.is_meta:
        return values(layer, name, stored)
    if dtype is None and not patcher.patches.get(key):
        return stored.detach()
    if stored.itemsize < 2 or is_packed(layer, name, stored):
        raise BaseMismatchError(
            f"The text encoder's weight {key} is stored as {stored_as(layer, name, stored)}"
            f"{', with a LoRA or another patch on it' if patcher.patches.get(key) else ''}. Load "
            "the text encoder in fp16, bf16 or fp32."
        )
    return effective_weight(patcher, key)


def _own(value: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """A tensor that autograd may save, as the loader's inference tensors may not be: of the same
    memory, or of memory of its own in `dtype`."""
    if dtype is not None:
        return value.to("cpu", dtype, copy=True)
    if value.is_inference() and type(value) in (torch.Tensor, torch.nn.Parameter):
        made = torch.empty(0, dtype=value.dtype, device=value.device)
        place = value.storage_offset(), value.shape, value.stride()
        return made.set_(value.untyped_storage(), *place)
    return value


def _copied(text_model: torch.nn.Module) -> torch.nn.Module:
    """A deep copy that shares the parameters and has nothing of the host's memory management."""
    memo: dict[int, Any] = {id(value): value for value in text_model.parameters()}
    for module in text_model.modules():
        for name, value in vars(module).items():
            # True, None and numbers are single objects: a stand-in would replace them everywhere.
            if HOSTS_OWN.fullmatch(name) and not isinstance(value, int | None):
                memo[id(value)] = object()  # stands in for the value until it is deleted below
    made = copy.deepcopy(text_model, memo)
    for module in made.modules():
        for name in [name for name in vars(module) if HOSTS_OWN.fullmatch(name)]:
            delattr(module, name)
    return made
