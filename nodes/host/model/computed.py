"""A weight with its patches in it, or an error where the host would leave one out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.lora
import torch

from ....tverase_core.errors import BaseMismatchError
from ..app.complaints import complaints_about


def computed(patches: Sequence[Any], weight: torch.Tensor, key: str) -> torch.Tensor:
    """The host's `calculate_weight`, which may write into `weight` and return it.

    The host logs a patch that it cannot compute, of another shape for example, and goes on
    without it. Raises BaseMismatchError then, with the host's words.
    """
    with complaints_about(key) as complaints:
        made = comfy.lora.calculate_weight(list(patches), weight, key)
    if complaints:
        raise BaseMismatchError(
            f"ComfyUI cannot compute a patch on {key} of shape {tuple(weight.shape)}, and draws "
            f"without it: {'; '.join(complaints)}. The LoRA or merge is probably of another model "
            "family. Take it out, or load one that was made for this model."
        )
    return made
