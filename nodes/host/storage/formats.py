"""How the host stores a weight, and the numbers that it stands for.

Three kinds are unpacked by code of the host or of a loader: its `QuantizedTensor` (0.3.75 and
newer, all layouts of comfy-kitchen), layers with a scale beside the weight ("scaled fp8", up to
0.3.76), and the tensors of ComfyUI-GGUF. Whoever adds a kind adds it here.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import comfy.float
import torch
from torch import Tensor

from ....tverase_core.errors import BaseMismatchError

# What layers keep beside a weight to unpack it: no weights themselves.
BESIDE = ("scale_weight", "scale_input", "input_scale", "pre_quant_scale", "scaled_fp8")
READABLE = (
    "fp32, fp16, bf16, fp8, scaled fp8 and GGUF; nvfp4 from ComfyUI 0.8 on, mxfp8 from 0.18, int8 "
    "and int8 ConvRot from 0.27, int4 ConvRot from 0.28, w4a8 from 0.31"
)


def parameters(module: torch.nn.Module) -> Iterator[tuple[str, Any, str, Tensor]]:
    """(key, layer, name, tensor) of all that a state dict of plain weights would hold."""
    for path, layer in module.named_modules(remove_duplicate=False):
        kept = {
            n: b for n, b in layer._buffers.items() if n not in layer._non_persistent_buffers_set
        }
        for name, weight in {**layer._parameters, **kept}.items():
            if weight is not None:
                yield f"{path}.{name}" if path else name, layer, name, weight


def layer_of(module: torch.nn.Module, key: str) -> tuple[Any, str]:
    """The layer that has the weight, and its name there."""
    path, _, name = key.rpartition(".")
    return module.get_submodule(path), name


def is_packed(layer: Any, name: str, weight: Tensor) -> bool:
    """Whether the numbers must be unpacked before use."""
    scaled = hasattr(layer, f"convert_{name}") and weight.itemsize < 2
    return scaled or hasattr(weight, "_qdata") or _is_gguf(weight)


def used_as_stored(weight: Tensor) -> bool:
    """Whether the host hands its functions the stored numbers, in whatever format: of scaled 8-bit
    ones of older hosts, which `stored_scale` is for, without their scale."""
    return not (hasattr(weight, "_qdata") or _is_gguf(weight))


def is_readable(layer: Any, name: str, weight: Tensor) -> bool:
    """Whether `values` can give its numbers."""
    if _is_gguf(weight):
        return hasattr(layer, "get_weight")
    return weight.is_floating_point() or hasattr(weight, "_qdata")


def values(layer: Any, name: str, weight: Tensor) -> Tensor:
    """The numbers of a weight: float32 of a packed one, else as stored. Its device.

    Raises BaseMismatchError for a format that the layer's own code cannot unpack.
    """
    weight = weight.detach()
    if weight.is_meta:  # the checkpoint lacked it: ComfyUI's dynamic memory computes with zeros
        return torch.zeros(weight.shape, dtype=weight.dtype)
    if _is_gguf(weight):
        bare = weight.as_subclass(type(weight))  # without the patches that hang on a loaded one
        bare.tensor_type, bare.tensor_shape, bare.patches = (
            weight.tensor_type,
            weight.tensor_shape,
            [],
        )
        return layer.get_weight(bare, torch.float32).as_subclass(Tensor)
    if hasattr(weight, "_qdata"):
        # Before 0.4 it could not change dtype, and logs a warning when asked to.
        wide = weight.to(dtype=torch.float32) if hasattr(weight, "_params") else weight
        try:
            return wide.dequantize().to(torch.float32)
        except (KeyError, NotImplementedError) as error:
            raise BaseMismatchError(
                f"{name} is stored in {stored_as(layer, name, weight)}, which this ComfyUI cannot "
                f"unpack. Load the model in one of {READABLE}."
            ) from error
    convert = getattr(layer, f"convert_{name}", None)
    plain = weight.as_subclass(Tensor) if hasattr(weight, "tensor_type") else weight
    return convert(plain) if convert else plain


def stored_as(layer: Any, name: str, weight: Tensor) -> torch.dtype | str:
    """The format's name, for people and for a fingerprint: a dtype of a plain weight."""
    if _is_gguf(weight):
        kind = weight.tensor_type
        return f"gguf_{getattr(kind, 'name', kind)}"
    if hasattr(weight, "_qdata"):
        layout = getattr(weight, "_layout_cls", getattr(weight, "_layout_type", "unknown"))
        kind = str(getattr(layer, "quant_format", None) or layout)
        return f"scaled_{kind}" if hasattr(torch, kind) else kind
    if is_packed(layer, name, weight):
        return f"scaled_{str(weight.dtype).removeprefix('torch.')}"
    return weight.dtype


def bits_of(weight: Tensor) -> float:
    """Bits of memory for each number that a stored weight stands for, without its scales."""
    held = getattr(weight, "_qdata", weight).as_subclass(Tensor)
    return 8 * held.numel() * held.itemsize / max(1, torch.Size(weight.shape).numel())


def _is_gguf(weight: Tensor) -> bool:
    return getattr(weight, "tensor_type", None) is not None and not weight.is_floating_point()


def restored(layer: Any, name: str, numbers: Tensor, seed: int) -> Tensor:
    """float32 numbers of a packed weight's rows as they read back once its layer has stored them.
    The layer keeps its own weight. seed: the host's, for rounding."""
    store = getattr(layer, f"set_{name}")
    if "return_weight" in inspect.signature(store).parameters:
        stored = store(numbers.clone(), seed=seed, return_weight=True)
        return values(layer, name, stored)
    # Hosts before late 2025: `store` would write into the layer, which other MODELs share.
    scale = layer.scale_weight.detach().to(numbers.device, torch.float32)
    small = comfy.float.stochastic_rounding(numbers / scale, layer.weight.dtype, seed=seed)
    return small.float() * scale


def stored_scale(layer: Any, name: str) -> float:
    """What the layer multiplies its weight by after functions have seen it; 1 but for scaled 8-bit
    formats of older hosts. Raises BaseMismatchError where rows have scales of their own."""
    factor = getattr(layer, "scale_weight", None) if name == "weight" else None
    if factor is None:
        return 1.0
    if factor.numel() != 1:
        raise BaseMismatchError(
            f"{name}: this model's format has {factor.numel()} scales for one weight, to which "
            "nothing can be added at use. Set precision to patch, or load the model in fp16, bf16 "
            "or fp32."
        )
    return float(factor)


def unpacked_at_use(weight: Tensor) -> bool:
    """Whether patches are added to the unpacked numbers each time, as ComfyUI-GGUF does."""
    return _is_gguf(weight)
