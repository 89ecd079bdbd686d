"""What a MODEL computes in: its noise schedule, number format and attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_base
import comfy.model_management
import comfy.model_sampling
import torch

from ....tverase_core.errors import BaseMismatchError
from ....tverase_core.schedule import NoiseSchedule

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

FEW_TOKENS = 1024  # up to here every pair of tokens fits in memory
_WHAT_TRAINS = (
    "Training knows epsilon and v prediction at the timesteps of Stable Diffusion 1.x, 2.x and XL. "
    "If a node such as ModelSamplingDiscrete stands between the loader and here, take it out or "
    "choose eps or v_prediction in it. Applying and extracting vectors works for this model."
)


def noise_schedule(model: ModelPatcher) -> NoiseSchedule:
    """The MODEL's schedule, alphas_cumprod = 1 / (1 + sigma^2) (arXiv 2206.00364, appendix C).

    Read off its `model_sampling`: nodes such as ModelSamplingDiscrete exchange that object, and
    the model's `model_type` stays what it was.
    Raises BaseMismatchError for models that predict neither epsilon nor v, and for those whose
    timesteps are not 0 to T - 1.
    """
    host = comfy.model_sampling
    sampling = model.get_model_object("model_sampling")
    # Who defines the method, not who inherits it: X0 and LCM are kinds of EPS, EDM is one of V.
    kind = _defining(sampling, "calculate_denoised")
    name = {host.EPS: "epsilon", host.V_PREDICTION: "v"}.get(kind)
    plain = _defining(sampling, "calculate_input") is host.EPS
    if name is None or not plain or getattr(sampling, "sigma_data", 1.0) != 1.0:
        called = {"CONST": "flow"}.get(kind.__name__, kind.__name__.lower())
        raise BaseMismatchError(f"This model predicts {called}. {_WHAT_TRAINS}")
    sigmas = sampling.sigmas.detach()
    steps = sampling.timestep(sigmas).cpu().double()
    if not torch.equal(steps, torch.arange(len(sigmas), dtype=torch.float64)):
        raise BaseMismatchError(
            f"This model's {len(sigmas)} noise levels lie at the timesteps {float(steps[0]):g} to "
            f"{float(steps[-1]):g}, not at 0 to {len(sigmas) - 1}. {_WHAT_TRAINS}"
        )
    return NoiseSchedule((1 / (1 + sigmas.double().cpu() ** 2)).clone(), name)


def _defining(thing: Any, method: str) -> type:
    """The class whose version of the method it has."""
    kinds = type(thing).__mro__
    return next((kind for kind in kinds if method in vars(kind)), kinds[0])


def prediction_of(model: ModelPatcher) -> str:
    """What the loaded checkpoint predicts: "epsilon", "v", or "" for anything else.

    A ModelSampling node on the MODEL changes nothing here: the weights are the same.
    """
    kinds = comfy.model_base.ModelType
    return {kinds.EPS: "epsilon", kinds.V_PREDICTION: "v"}.get(model.model.model_type, "")


def compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it, else float32; float16 gradients underflow."""
    if device.type == "cpu" or not comfy.model_management.should_use_bf16(device):
        return torch.float32
    return torch.bfloat16


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether this is a CPU with matrix units for bfloat16 (AMX), several times as fast there."""
    found = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return device.type == "cpu" and found is not None and bool(found())


def plain_attention(function: Any, q: Any, k: Any, v: Any, heads: int, **options: Any) -> Any:
    """PyTorch's own attention: the fast custom kernels have no usable backward."""
    from comfy.ldm.modules.attention import attention_pytorch

    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        # There the backward of PyTorch's kernel is an order slower than the products themselves.
        if q.ndim == 3 and q.shape[1] <= FEW_TOKENS and options.get("mask") is None:
            return _products(q, k, v, heads)
        return attention_pytorch(q.float(), k.float(), v.float(), heads, **options).to(q.dtype)
    return attention_pytorch(q, k, v, heads, **options)


def _products(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """softmax(q k^T / sqrt(width)) v by head; q, k, v: [b, tokens, heads * width]."""
    batch, count, total = q.shape
    width = total // heads
    q, k, v = (t.view(batch, -1, heads, width).transpose(1, 2) for t in (q, k, v))
    likeness = (q * width**-0.5) @ k.transpose(-1, -2)
    return (likeness.softmax(-1) @ v).transpose(1, 2).reshape(batch, count, total)
