"""What a MODEL computes in: number format and attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

FEW_TOKENS = 1024  # up to here every pair of tokens fits in memory


def compute_dtype(model: ModelPatcher, *, fast: bool = False) -> torch.dtype:
    """bfloat16 where the device computes in it, else float32; float16 gradients underflow.

    fast: bfloat16 also for float32 weights on a CPU with matrix units for it, in families that the
    host computes in it, unless they are told a guidance: its embedding is of 1000 times the number,
    which bfloat16 moves by up to 8 (docs/decisions/0023).
    """
    device, family = model.load_device, model.model.model_config
    if device.type != "cpu":
        half = comfy.model_management.should_use_bf16(device)
    else:
        half = fast and has_fast_bfloat16(device) and model.model.get_dtype() == torch.float32
        half = half and torch.bfloat16 in family.supported_inference_dtypes
        half = half and not family.unet_config.get("guidance_embed")
    return torch.bfloat16 if half else torch.float32


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether this is a CPU that is twice as fast or more in bfloat16: by matrix units (AMX), or
    AMD's by AVX-512's instructions, which gain nothing on Intel's."""
    if device.type != "cpu":
        return False
    if not hasattr(torch.cpu, "get_capabilities"):
        found = getattr(torch.cpu, "_is_amx_tile_supported", None)
        return found is not None and bool(found())
    has = torch.cpu.get_capabilities()
    amd = str(has.get("cpu_name", "")).startswith("AMD")
    return bool(has.get("amx_tile") or (amd and has.get("avx512_bf16")))


def plain_attention(
    function: Any, q: Any, k: Any, v: Any, heads: int, mask: Any = None, *words: Any, **options: Any
) -> Any:
    """PyTorch's own attention: the fast custom kernels have no usable backward.

    Called as the host calls its own, masks by place or by name.
    """
    from comfy.ldm.modules.attention import attention_pytorch

    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        # There the backward of PyTorch's kernel is an order slower than the products themselves.
        if q.ndim == 3 and q.shape[1] <= FEW_TOKENS and mask is None:
            return _products(q, k, v, heads)
        if mask is not None and mask.is_floating_point():
            mask = mask.float()
        made = attention_pytorch(q.float(), k.float(), v.float(), heads, mask, *words, **options)
        return made.to(q.dtype)
    return attention_pytorch(q, k, v, heads, mask, *words, **options)


def _products(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """softmax(q k^T / sqrt(width)) v by head; q, k, v: [b, tokens, heads * width]."""
    batch, count, total = q.shape
    width = total // heads
    q, k, v = (t.view(batch, -1, heads, width).transpose(1, 2) for t in (q, k, v))
    likeness = (q * width**-0.5) @ k.transpose(-1, -2)
    return (likeness.softmax(-1) @ v).transpose(1, 2).reshape(batch, count, total)
