"""Quantised copies of a small UNet: made by the host's own layouts, opened by its own loader."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from host_support import tiny_host

# format -> (the host's layout, options of its `quantize`, what the file says of the layer)
KITCHEN: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "float8_e5m2": ("TensorCoreFP8E5M2Layout", {"scale": "recalculate"}, {}),
    "mxfp8": ("TensorCoreMXFP8Layout", {}, {}),
    "int8_tensorwise": ("TensorWiseINT8Layout", {}, {}),
    "int8_convrot": (
        "TensorWiseINT8Layout",
        {"per_channel": True, "convrot": True, "convrot_groupsize": 16},
        {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 16},
    ),
    "convrot_w4a4": (
        "TensorCoreConvRotW4A4Layout",
        {"convrot_groupsize": 16},
        {"convrot_groupsize": 16},
    ),
    "nvfp4": ("TensorCoreNVFP4Layout", {"scale": "recalculate"}, {}),
    "asym_w4a8_int8": (
        "AsymW4A8Int8Layout",
        {"convrot_groupsize": 16},
        {"group_size": 16, "convrot_groupsize": 16},
    ),
}
OLD_SCALED = "scaled_fp8"  # of 2024 and 2025: `scale_weight` beside each weight
HEADER = "float8_e4m3fn"  # named in the file's header, as the first of the new files did
GGUF = "gguf"
FP8 = torch.float8_e4m3fn
Pick = Callable[[str], bool]


def known_formats() -> list[str]:
    """Those that this ComfyUI has, and GGUF by a stand-in for its loader."""
    if find_spec("comfy.quant_ops") is None:
        return [OLD_SCALED, GGUF]
    import comfy.quant_ops

    known = comfy.quant_ops.QUANT_ALGOS
    kitchen = [f for f, (_, _, told) in KITCHEN.items() if told.get("format", f) in known]
    return [OLD_SCALED, HEADER, *kitchen, GGUF]


def plain_weights(model: Any) -> dict[str, Tensor]:
    """Copies of the UNet's weights by the names that a file of it alone has."""
    return {k: v.detach().clone() for k, v in model.model.diffusion_model.state_dict().items()}


def quantised_file(
    name: str, weights: Mapping[str, Tensor], pick: Pick = lambda key: True
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a checkpoint: every picked matrix that the format takes is in it."""
    made: dict[str, Tensor] = {}
    layers: dict[str, dict[str, str]] = {}
    for key, weight in weights.items():
        layer, _, last = key.rpartition(".")
        if weight.ndim != 2 or last != "weight" or not pick(key):
            made[key] = weight
        elif name in (OLD_SCALED, HEADER):
            scale = weight.float().abs().amax() / torch.finfo(FP8).max
            made[key] = (weight.float() / scale).to(FP8)
            made[f"{layer}.{'scale_weight' if name == OLD_SCALED else 'weight_scale'}"] = scale
            layers[layer] = {"format": "float8_e4m3fn"}
        else:
            made.update(_quantised(name, key, weight))
    if name == OLD_SCALED:
        made["scaled_fp8"] = torch.zeros(2, dtype=FP8)
    told = {"_quantization_metadata": json.dumps({"layers": layers})} if name == HEADER else {}
    return made, told


def _quantised(name: str, key: str, weight: Tensor) -> dict[str, Tensor]:
    from comfy.quant_ops import QuantizedTensor

    layout, options, told = KITCHEN[name]
    packed = name in ("convrot_w4a4", "nvfp4", "asym_w4a8_int8")
    # The host reads the width of a UNet's context off this weight: it cannot be one of half size.
    if packed and ("attn2.to_k" in key or weight.shape[1] % 64):
        return {key: weight}
    held = QuantizedTensor.from_float(weight.float(), layout, **options).state_dict(key)
    words = json.dumps({"format": name, **told}).encode()
    mark = key.removesuffix("weight") + "comfy_quant"
    return {**held, mark: torch.tensor(list(words), dtype=torch.uint8)}


def quantised_model(name: str, weights: Mapping[str, Tensor], pick: Pick = lambda key: True) -> Any:
    """A MODEL as the stock loader (of GGUF: the stand-in's) gives it for that file."""
    import comfy.sd

    tiny_host.register()
    with torch.inference_mode():
        if name == GGUF:
            from host_support.gguf_stand_in import gguf_model

            return gguf_model(weights, pick)
        tensors, metadata = quantised_file(name, weights, pick)
        told = {"metadata": metadata} if metadata else {}  # older hosts take none
        return comfy.sd.load_diffusion_model_state_dict(tensors, **told)
