"""Write model_keys.json.gz: names and shapes (no values) of SD1.5, SD2.1 and SDXL models.

The host's own classes are built on torch's meta device, so nothing is downloaded and no weight
is allocated. Run once, with the folder of a ComfyUI tree:
    python tests/data/make_keys.py .host/comfyui-0.3.75
"""

from __future__ import annotations

import gzip
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
