"""A Stable-Diffusion-shaped model and text encoder of ComfyUI's own classes, small for tests.

Built as a loader builds them: under `torch.inference_mode`, and filled from a seed, because
ComfyUI's layers are born uninitialised. Importing this module needs the host on sys.path.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import comfy.model_base
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import torch
from torch import nn

WIDTH = 32  # GroupNorm wants multiples of 32
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": WIDTH,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": WIDTH,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "use_temporal_attention": False,
    "adm_in_channels": None,
    "legacy": False,
}
TEXT = {
    "hidden_act": "quick_gelu",
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 77,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "projection_dim": WIDTH,
    "eos_token_id": 49407,
    "vocab_size": 49408,
}
CPU = torch.device("cpu")


class TinySD15(comfy.supported_models.SD15):
    """SD 1.x but for its size."""

    unet_config: ClassVar[dict[str, Any]] = {
        **comfy.supported_models.SD15.unet_config,
        "context_dim": WIDTH,
        "model_channels": WIDTH,
        "in_channels": 4,
    }
    unet_extra_config: ClassVar[dict[str, Any]] = {"num_heads": 2, "num_head_channels": -1}

    def clip_target(self, state_dict: Any = None) -> Any:
        return comfy.supported_models_base.ClipTarget(TinyTokenizer, TinyTextModel)


def _text_config() -> str:
    path = Path(tempfile.gettempdir()) / f"tverase_tiny_text_{WIDTH}.json"
    path.write_text(json.dumps(TEXT), "utf-8")  # hosts of 2024 take a path only
    return str(path)


class _TinyClip(comfy.sd1_clip.SDClipModel):
    def __init__(self, *words: Any, **options: Any):
        super().__init__(*words, textmodel_json_config=_text_config(), **options)


class TinyTextModel(comfy.sd1_clip.SD1ClipModel):
    """One CLIP tower "l" of width 32."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None):
        super().__init__(
            device=device, dtype=dtype, model_options=model_options or {}, clip_model=_TinyClip
        )


class _TinyTokens(comfy.sd1_clip.SDTokenizer):
    def __init__(self, *words: Any, **options: Any):
        super().__init__(*words, **{**options, "embedding_size": WIDTH})


class TinyTokenizer(comfy.sd1_clip.SD1Tokenizer):
    """The real CLIP vocabulary; learned embeddings are 32 wide."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None):
        super().__init__(
            embedding_directory=embedding_directory,
            tokenizer_data=tokenizer_data or {},
            tokenizer=_TinyTokens,
        )


def fill(module: nn.Module, seed: int) -> None:
    """Write seeded values: 1/sqrt(fan in), norms 1, biases 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        if parameter.ndim > 1:
            fan_in = parameter[0].numel()
            values = torch.randn(parameter.shape, generator=generator) / fan_in**0.5
        else:
            values = torch.full(parameter.shape, 0.0 if name.endswith("bias") else 1.0)
        parameter.copy_(values.to(parameter))


def register() -> None:
    """Let this ComfyUI's Load Checkpoint recognise the tiny shape."""
    known = comfy.supported_models.models
    if not any(model.__name__ == TinySD15.__name__ for model in known):
        known.append(TinySD15)


def build_model(
    storage: torch.dtype = torch.float16,
    compute: torch.dtype | None = torch.float32,
    prediction: str = "epsilon",
    seed: int = 0,
) -> comfy.model_patcher.ModelPatcher:
    """A MODEL as Load Checkpoint gives it, 1.06 M parameters, latents [b, 4, h, w], context 32.

    storage, compute: dtypes of the kept weights and of the arithmetic. Where they agree the host
    uses the weights uncast, and autograd meets inference tensors.
    """
    with torch.inference_mode():
        config = TinySD15(dict(UNET))
        config.set_inference_dtype(storage, None if compute in (None, storage) else compute)
        kinds = comfy.model_base.ModelType
        kind = kinds.EPS if prediction == "epsilon" else kinds.V_PREDICTION
        model = comfy.model_base.BaseModel(config, model_type=kind, device="cpu")
        fill(model.diffusion_model, seed)
    return comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)


def build_sdxl(
    storage: torch.dtype = torch.float16, seed: int = 0
) -> comfy.model_patcher.ModelPatcher:
    """A MODEL of SDXL's shape: it also takes the pooled text and sizes, `y` [b, 2816]."""
    unet = {**UNET, "num_classes": "sequential", "adm_in_channels": 2816}
    with torch.inference_mode():
        config = comfy.supported_models.SDXL(dict(unet))
        config.unet_config.update(num_heads=2, num_head_channels=-1)
        config.set_inference_dtype(storage, torch.float32)
        model = comfy.model_base.SDXL(config, device="cpu")
        fill(model.diffusion_model, seed)
    return comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)


def build_clip(dtype: torch.dtype = torch.float32, seed: int = 1) -> comfy.sd.CLIP:
    """A CLIP as Load Checkpoint gives it: width 32, 77 tokens, the real vocabulary."""
    with torch.inference_mode():
        target = comfy.supported_models_base.ClipTarget(TinyTokenizer, TinyTextModel)
        clip = comfy.sd.CLIP(target, model_options={"dtype": dtype})
        fill(clip.cond_stage_model, seed)
    return clip


def save_checkpoint(path: Path, seed: int = 0) -> None:
    """Write a checkpoint for the stock Load Checkpoint node: UNet, CLIP and a TAESD, all float16.

    Its VAE works 8 times smaller as SD's does; its pictures are noise, its bytes repeat.
    """
    from comfy.taesd.taesd import TAESD
    from safetensors.torch import save_file

    with torch.inference_mode():
        vae = TAESD()
        fill(vae, seed + 2)
    parts = {
        "model.diffusion_model.": build_model(seed=seed).model.diffusion_model,
        "cond_stage_model.": build_clip(seed=seed + 1).cond_stage_model.clip_l,
        "first_stage_model.": vae,
    }
    tensors = {
        prefix + name: tensor.detach().to(torch.float16).clone().contiguous()
        for prefix, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
    save_file(tensors, str(path))
