"""Write model_keys.json.gz: names and shapes (no values) of real models.

SD1.5, SD2.1, SDXL base and refiner, SD3.5 medium, Flux dev and the CLIP towers are whole; other
transformers, of which only the pattern of names matters, have few blocks.

The host's own classes are built on torch's meta device, so nothing is downloaded and no weight
is allocated. Run once, with the folder of a ComfyUI tree:
    python tests/data/make_keys.py .host/comfyui-0.3.75
"""

from __future__ import annotations

import gzip
import importlib
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COMMON: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "legacy": False,
}
FOUR_LEVELS: dict[str, Any] = {
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
}
UNETS: dict[str, dict[str, Any]] = {
    "sd15": {
        **COMMON,
        **FOUR_LEVELS,
        "context_dim": 768,
        "num_heads": 8,
        "use_linear_in_transformer": False,
    },
    "sd21": {
        **COMMON,
        **FOUR_LEVELS,
        "context_dim": 1024,
        "num_head_channels": 64,
        "use_linear_in_transformer": True,
    },
    "sdxl": {
        **COMMON,
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_middle": 10,
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "context_dim": 2048,
        "num_head_channels": 64,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": 2816,
    },
}
UNETS["sdxl_refiner"] = {
    **COMMON,
    "model_channels": 384,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [0, 0, 4, 4, 4, 4, 0, 0],
    "transformer_depth_middle": 4,
    "transformer_depth_output": [0, 0, 0, 4, 4, 4, 4, 4, 4, 0, 0, 0],
    "context_dim": 1280,
    "num_head_channels": 64,
    "use_linear_in_transformer": True,
    "num_classes": "sequential",
    "adm_in_channels": 2560,
}
_FLUX: dict[str, Any] = {
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 768,
    "context_in_dim": 4096,
    "hidden_size": 3072,
    "mlp_ratio": 4.0,
    "num_heads": 24,
    "depth": 19,
    "depth_single_blocks": 38,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": True,
}
_SD3: dict[str, Any] = {
    "input_size": None,
    "in_channels": 16,
    "out_channels": 16,
    "depth": 24,
    "adm_in_channels": 2048,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": 4096, "out_features": 1536},
    },
}
_HUNYUAN_VIDEO = {"depth": 2, "depth_single_blocks": 2, "theta": 256, "patch_size": [1, 2, 2]}
# (module under comfy.ldm, class, settings)
TRANSFORMERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "flux_dev": ("flux.model", "Flux", {**_FLUX, "image_model": "flux"}),
    "sd35_medium": (
        "modules.diffusionmodules.mmdit",
        "MMDiT",
        {
            **_SD3,
            "num_patches": 384 * 384,
            "pos_embed_max_size": 384,
            "qk_norm": "rms",
            "x_block_self_attn_layers": list(range(13)),
        },
    ),
    "sd3_medium": (
        "modules.diffusionmodules.mmdit",
        "MMDiT",
        {**_SD3, "num_patches": 192 * 192, "pos_embed_max_size": 192},
    ),
    "auraflow": ("aura.mmdit", "MMDiT", {"n_layers": 4, "n_double_layers": 2}),
    "pixart": ("pixart.pixartms", "PixArtMS", {"depth": 2}),
    "wan": ("wan.model", "WanModel", {"num_layers": 2, "model_type": "i2v"}),
    "qwen_image": ("qwen_image.model", "QwenImageTransformer2DModel", {"num_layers": 2}),
    "lumina2": ("lumina.model", "NextDiT", {"n_layers": 2, "qk_norm": True}),
    "ltxv": ("lightricks.model", "LTXVModel", {"num_layers": 2}),
    "hunyuan_video": (
        "hunyuan_video.model",
        "HunyuanVideo",
        {
            **_FLUX,
            **_HUNYUAN_VIDEO,
            "byt5": True,
            "meanflow": False,
            "use_cond_type_embedding": False,
            "vision_in_dim": None,
        },
    ),
    "hidream": (
        "hidream.model",
        "HiDreamImageTransformer2DModel",
        {
            "num_layers": 2,
            "num_single_layers": 2,
            "caption_channels": [4096, 4096],
            "llama_layers": [0, 1, 2, 3],
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
        },
    ),
    "omnigen2": ("omnigen.omnigen2", "OmniGen2Transformer2DModel", {"num_layers": 2}),
    "hunyuan_dit": ("hydit.models", "HunYuanDiT", {"depth": 4, "qk_norm": True}),
}
# Widths and depths of the three CLIP towers: (hidden, intermediate, layers, heads, activation).
TOWERS = {
    "clip_l": (768, 3072, 12, 12, "quick_gelu"),
    "clip_g": (1280, 5120, 32, 20, "gelu"),
    "clip_h": (1024, 4096, 24, 16, "gelu"),
}


def shapes_of(module: Any, prefix: str) -> dict[str, list[int]]:
    return {prefix + name: list(value.shape) for name, value in module.state_dict().items()}


def main(host: str) -> None:
    sys.argv = [sys.argv[0], "--cpu"]
    sys.path.insert(0, host)
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.ops
    import torch
    from comfy.clip_model import CLIPTextModel
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    meta = torch.device("meta")
    operations = comfy.ops.disable_weight_init
    tables: dict[str, dict[str, list[int]]] = {}
    for name, config in UNETS.items():
        unet = UNetModel(**config, dtype=torch.float16, device=meta, operations=operations)
        tables[name] = shapes_of(unet, "diffusion_model.")
    for name, (place, kind, config) in TRANSFORMERS.items():
        made = getattr(importlib.import_module(f"comfy.ldm.{place}"), kind)
        model = made(**config, dtype=torch.float16, device=meta, operations=operations)
        tables[name] = shapes_of(model, "diffusion_model.")
    for name, (hidden, inner, layers, heads, activation) in TOWERS.items():
        text = {
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "hidden_act": activation,
            "max_position_embeddings": 77,
            "eos_token_id": 49407,
        }
        tower = CLIPTextModel(text, torch.float16, meta, operations)
        tables[name] = shapes_of(tower, f"{name}.transformer.")
        tables[name][f"{name}.logit_scale"] = []
    text_json = json.dumps(tables, separators=(",", ":"), sort_keys=True)
    (HERE / "model_keys.json.gz").write_bytes(gzip.compress(text_json.encode(), 9, mtime=0))
    for name, table in tables.items():
        sys.stdout.write(f"{name}: {len(table)} tensors\n")


if __name__ == "__main__":
    main(sys.argv[1])
