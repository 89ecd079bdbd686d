"""The demo's second model: a small Z-Image in the host's own NextDiT class, by flow matching.

Text encoder and VAE are the first model's. The host's detection takes a transformer of Z-Image's
key names for one of the two published sizes, so its configuration is read from a file here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import torch

from ....tverase_core.errors import BaseMismatchError


def flow_model(family: Any, state_dict: dict[str, torch.Tensor]) -> Any:
    """The MODEL. family: configured with the network's sizes and `sampling_settings`.

    Raises BaseMismatchError where the host is older than Z-Image.
    """
    kind = getattr(comfy.model_base, "Lumina2", None)
    missing = _missing(family.unet_config) if kind else ["such class"]
    if kind is None or missing:
        raise BaseMismatchError(
            "The demo's flow-matching model is of Z-Image's class, and this ComfyUI is older than "
            f"Z-Image (its NextDiT has no {', '.join(missing)}). Update ComfyUI to 0.3.75 or "
            "newer, or choose `UNet`."
        )
    device = comfy.model_management.get_torch_device()
    offload = comfy.model_management.unet_offload_device()
    model = kind(family, comfy.model_base.ModelType.FLOW, device=offload)
    model.load_model_weights(state_dict, "")
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)


def _missing(sizes: Mapping[str, Any]) -> list[str]:
    """The sizes that the host's class cannot be given."""
    from comfy.ldm.lumina.model import NextDiT

    known = inspect.signature(NextDiT).parameters
    return sorted(sizes.keys() - known.keys())


def states_needed(tokens: Sequence[Sequence[Any]], least: int, end: int) -> int:
    """How many states of the text tower the transformer is shown: `least`, as in training, or as
    many as the longest prompt has tokens, its end mark included."""
    return max([least, *(_length(row, end) for row in tokens)])


def _length(row: Sequence[Any], end: int) -> int:
    marks = (i for i, token in enumerate(row) if not torch.is_tensor(token) and token == end)
    return next(marks, len(row) - 1) + 1
