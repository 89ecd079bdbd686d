"""Every flow-matching family of ComfyUI that draws pictures, of the host's own classes, small.

Built as a loader builds them (`tiny_host`); `build` needs the host on sys.path.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import torch

from tverase_core.concept_set import ConceptSet, concept_set
from tverase_core.ports import Context, joined

TEXT = 32  # width of every family's texts
FLUX: dict[str, Any] = {
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 32,
    "context_in_dim": TEXT,
    "hidden_size": 48,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [4, 10, 10],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": False,
}
NEXT_DIT: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 16,
    "dim": 48,
    "n_layers": 2,
    "n_refiner_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 2,
    "multiple_of": 8,
    "qk_norm": True,
    "cap_feat_dim": TEXT,
    "axes_dims": [8, 8, 8],
    "axes_lens": [64, 64, 64],
    "rope_theta": 256.0,
}
SD3: dict[str, Any] = {
    "input_size": None,
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "depth": 2,
    "num_patches": 256,
    "pos_embed_max_size": 16,
    "adm_in_channels": 40,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": TEXT, "out_features": 128},
    },
}
COSMOS: dict[str, Any] = {
    "max_img_h": 32,
    "max_img_w": 32,
    "max_frames": 8,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 64,
    "num_blocks": 2,
    "num_heads": 2,
    "crossattn_emb_channels": TEXT,
    "pos_emb_cls": "rope3d",
    "use_adaln_lora": True,
    "adaln_lora_dim": 8,
    "extra_per_block_abs_pos_emb": False,
}


# What the loaders of newer hosts find in a file beside, by `image_model`.
NEWER: dict[str, dict[str, Any]] = {
    "flux": {"txt_ids_dims": []},
    "flux2": {"txt_ids_dims": [3]},
    "chroma": {"txt_ids_dims": [], "vec_in_dim": None},
    "hunyuan_video": {"meanflow_sum": False},
}


@dataclass(frozen=True)
class Family:
    """config: class of comfy.supported_models. unet: its settings. pooled: width of the pooled
    text. latent: (c, h, w). states: further text states, by the host's name, [tokens axis and
    width]. masked: whether the encoder gives a mask. words: whether it gives the words of a T5
    tokenizer. dead: starts of names of weights that reach no output."""

    config: str
    unet: dict[str, Any]
    pooled: int = 0
    latent: tuple[int, int, int] = (16, 8, 8)
    states: dict[str, tuple[int, ...]] = field(default_factory=dict)
    masked: bool = False
    words: bool = False
    dead: tuple[str, ...] = ()


FAMILIES: dict[str, Family] = {
    "lumina2": Family(
        "Lumina2", {**NEXT_DIT, "image_model": "lumina2"}, masked=True, dead=("norm_final.",)
    ),
    "z-image": Family(
        "ZImage",
        {
            **NEXT_DIT,
            "image_model": "lumina2",
            "dim": 256,
            "n_heads": 4,
            "n_kv_heads": 4,
            "n_layers": 1,
            "ffn_dim_multiplier": 0.5,
            "axes_dims": [16, 24, 24],
            "z_image_modulation": True,
            "time_scale": 1000.0,
            "pad_tokens_multiple": 3,
        },
        dead=("norm_final.",),
    ),
    "flux-dev": Family("Flux", {**FLUX, "image_model": "flux", "guidance_embed": True}, 32),
    "flux-schnell": Family("FluxSchnell", {**FLUX, "image_model": "flux"}, 32),
    "flux2": Family(
        "Flux2",
        {
            **FLUX,
            "image_model": "flux2",
            "in_channels": 8,
            "out_channels": 8,
            "patch_size": 1,
            "vec_in_dim": None,
            "axes_dim": [6, 6, 6, 6],
            "global_modulation": True,
            "mlp_silu_act": True,
            "qkv_bias": False,
            "ops_bias": False,
            "guidance_embed": True,
            "default_ref_method": "index",
            "ref_index_scale": 10.0,
        },
        latent=(8, 4, 4),
    ),
    "chroma": Family(
        "Chroma",
        {
            **{k: v for k, v in FLUX.items() if k not in ("vec_in_dim", "guidance_embed")},
            "image_model": "chroma",
            "in_channels": 64,
            "out_channels": 64,
            "in_dim": 64,
            "out_dim": 48,
            "hidden_dim": 32,
            "n_layers": 2,
        },
    ),
    "qwen-image": Family(
        "QwenImage",
        {
            "image_model": "qwen_image",
            "in_channels": 64,
            "num_layers": 2,
            "attention_head_dim": 24,
            "num_attention_heads": 2,
            "joint_attention_dim": TEXT,
            "axes_dims_rope": (8, 8, 8),
        },
        dead=(
            "transformer_blocks.1.txt_mlp.",
            "transformer_blocks.1.attn.to_add_out.",
            "transformer_blocks.1.attn.add_q_proj.",
            "transformer_blocks.1.attn.norm_added_q.",
        ),
    ),
    "sd3": Family("SD3", {**SD3}, 40),
    "sd3.5": Family(
        "SD3",
        {**SD3, "qk_norm": "rms", "x_block_self_attn_layers": [0]},
        40,
        dead=("joint_blocks.1.context_block.attn.ln_q.",),
    ),
    "auraflow": Family(
        "AuraFlow",
        {
            "dim": 48,
            "n_layers": 3,
            "n_double_layers": 1,
            "n_heads": 2,
            "global_conddim": 48,
            "cond_seq_dim": TEXT,
            "max_seq": 64,
        },
        latent=(4, 8, 8),
    ),
    "hidream": Family(
        "HiDream",
        {
            "image_model": "hidream",
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 1,
            "num_single_layers": 1,
            "attention_head_dim": 24,
            "num_attention_heads": 2,
            "caption_channels": [TEXT, TEXT],
            "text_emb_dim": 32,
            "axes_dims_rope": (8, 8, 8),
            "llama_layers": [0, 1],
        },
        32,
        states={"conditioning_llama3": (2, 6, TEXT)},
    ),
    "hunyuan-image": Family(
        "HunyuanImage21",
        {
            **FLUX,
            "image_model": "hunyuan_video",
            "in_channels": 64,
            "out_channels": 64,
            "vec_in_dim": None,
            "axes_dim": [12, 12],
            "theta": 256,
            "patch_size": [1, 1],
            "byt5": False,
            "meanflow": False,
            "use_cond_type_embedding": False,
            "vision_in_dim": None,
        },
        latent=(64, 4, 4),
        masked=True,
    ),
    "omnigen2": Family(
        "Omnigen2",
        {
            "image_model": "omnigen2",
            "hidden_size": 48,
            "num_layers": 1,
            "num_refiner_layers": 1,
            "num_attention_heads": 2,
            "num_kv_heads": 1,
            "multiple_of": 8,
            "axes_dim_rope": (8, 8, 8),
            "axes_lens": (64, 64, 64),
            "text_feat_dim": TEXT,
        },
        masked=True,
        dead=("image_index_embedding", "ref_image_"),
    ),
    "cosmos-predict2": Family("CosmosT2IPredict2", {**COSMOS, "image_model": "cosmos_predict2"}),
    "anima": Family("Anima", {**COSMOS, "image_model": "anima"}, words=True),
    "wan2.1": Family(
        "WAN21_T2V",
        {
            "image_model": "wan2.1",
            "model_type": "t2v",
            "dim": 48,
            "ffn_dim": 64,
            "freq_dim": 32,
            "text_dim": TEXT,
            "num_heads": 2,
            "num_layers": 2,
        },
    ),
}


def build(
    name: str,
    storage: torch.dtype = torch.float32,
    seed: int = 0,
    unet: Mapping[str, Any] | None = None,
) -> Any:
    """A MODEL of that family, its compute dtype float32. unet: settings that replace its own."""
    import comfy.model_patcher

    family, cpu = FAMILIES[name], torch.device("cpu")
    with torch.inference_mode():
        config = configured(name, unet)
        compute = None if storage == torch.float32 else torch.float32
        config.set_inference_dtype(storage, compute)
        model = config.get_model({}, "", device="cpu")
        _fill(model.diffusion_model, seed)
        channels = family.latent[0]
        if model.latent_format.latent_channels != channels:
            model.latent_format = _narrow(channels)
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def configured(name: str, unet: Mapping[str, Any] | None = None) -> Any:
    """What a loader of the host makes of a file: a configuration of comfy.supported_models."""
    import comfy.supported_models

    family = FAMILIES[name]
    if family.words:
        _small_adapter()
    asked = _asked(family.unet.get("image_model", ""))
    kind = getattr(comfy.supported_models, family.config)
    return kind({**asked, **family.unet, **(unet or {})})


def _small_adapter() -> None:
    """From here on Anima's text adapter is small in this process: it has no settings."""
    from comfy.ldm.anima import model

    whole, sizes = model.LLMAdapter, dict.fromkeys(("source_dim", "target_dim", "model_dim"), TEXT)
    if isinstance(whole, type):
        model.LLMAdapter = partial(whole, **sizes, num_layers=1, num_heads=2)


def _asked(image_model: str) -> dict[str, Any]:
    """Those of NEWER that this host's network wants to be told."""
    wanted = NEWER.get(image_model, {})
    if not wanted:
        return {}
    folder, name = {
        "chroma": ("chroma", "ChromaParams"),
        "hunyuan_video": ("hunyuan_video", "HunyuanVideoParams"),
    }.get(image_model, ("flux", "FluxParams"))
    params = getattr(importlib.import_module(f"comfy.ldm.{folder}.model"), name)
    known = {field.name for field in fields(params)}
    return {name: value for name, value in wanted.items() if name in known}


def _narrow(channels: int) -> Any:
    """A latent format of so few channels, unscaled."""
    import comfy.latent_formats

    made = comfy.latent_formats.LatentFormat()
    made.latent_channels = channels
    return made


def _fill(module: torch.nn.Module, seed: int) -> None:
    """Seeded values everywhere, none 0: a gate or bias of 0 would hide what lies behind it."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in sorted(module.state_dict().items()):
        if value.is_floating_point():
            fan_in = max(1, value[0].numel()) if value.ndim > 1 else 1
            made = torch.randn(value.shape, generator=generator) / fan_in**0.5
            made = made if value.ndim > 1 else 0.2 * made + (0.0 if name.endswith("bias") else 1.0)
            value.copy_(made.to(value))


def text(name: str, tokens: int, rows: int = 1, seed: int = 0) -> Context:
    """What the family's text encoder gives for prompts of so many tokens."""
    family, generator = FAMILIES[name], torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn((rows, *shape), generator=generator)

    extra = {"pooled_output": random(family.pooled)} if family.pooled else {}
    extra |= {state: random(*shape) for state, shape in family.states.items()}
    if family.words:
        words = torch.randint(2, 99, (rows, tokens - 1, 1), generator=generator)
        extra |= {"t5xxl_ids": words, "t5xxl_weights": torch.ones(words.shape)}
    if family.masked:
        extra["attention_mask"] = torch.ones(rows, tokens, dtype=torch.int64)
    return Context(random(tokens, TEXT), extra)


def texts(name: str, *tokens: int) -> Context:
    """One prompt for each number of tokens."""
    return joined(*(text(name, count, seed=seed) for seed, count in enumerate(tokens)))


def pictures(name: str, count: int = 4, seed: int = 5) -> ConceptSet:
    """A concept set of noise, half of it under a caption that is longer than the empty one."""
    source = torch.Generator().manual_seed(seed)
    latents = torch.randn((count, *FAMILIES[name].latent), generator=source)
    shown = texts(name, *([5, 7] * count)[:count])
    return concept_set("cat", latents, shown, shown.pick(torch.tensor([0])))
