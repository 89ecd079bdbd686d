"""What a model on disk predicts, where its file tells: the noise ("epsilon"), "v" or a flow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import get_args

from torch import Tensor

from ..model.layout import DIFFUSION_PREFIX
from ..schedule import Prediction

MARK = "v_pred"  # an empty tensor of this name
STATED = "modelspec.prediction_type"
# Stable Diffusion 2.1's v model and its noise model have the same shapes. ComfyUI tells them by
# the spread of this bias (comfy/supported_models.py, SD20).
_SD2_WIDTH = 1024
_SD2_BIAS = DIFFUSION_PREFIX + "output_blocks.11.1.transformer_blocks.0.norm1.bias"
_SD2_SPREAD = 0.09


def prediction_of(
    metadata: Mapping[str, str],
    marks: Collection[str],
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], Tensor],
) -> str:
    """ "epsilon", "v", "flow", or "" where nothing tells.

    marks: names of the tensors without elements. shapes: of the weights by key; read: one of them.
    """
    stated = metadata.get(STATED, "").strip().lower()
    if stated in get_args(Prediction):
        return stated
    if MARK in marks:
        return "v"
    first = shapes.get(DIFFUSION_PREFIX + "input_blocks.0.0.weight", ())
    if _SD2_BIAS not in shapes or first[1:2] != (4,):  # its inpainting models predict the noise
        return ""
    widths = {shape[1:] for key, shape in shapes.items() if key.endswith(".attn2.to_k.weight")}
    if widths != {(_SD2_WIDTH,)}:
        return ""
    spread = float(read(_SD2_BIAS).double().std(correction=0))
    return "v" if spread > _SD2_SPREAD else "epsilon"
