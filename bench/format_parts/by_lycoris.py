"""Files of LyCORIS, by its kohya entry, as sd-scripts calls it; merged by merge_to."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lycoris.kohya import create_network

from bench.format_parts.case import Case, difference, note
from bench.format_parts.tiny_unet import unet, weights

TOOL = f"LyCORIS {version('lycoris-lora')}"
RANK, ALPHA = 4, 2.0
# Its own preset "full" counts a UNet's time embedding twice and stops.
PRESET = """enable_conv = true
unet_target_module = ["Transformer2DModel", "ResnetBlock2D", "Downsample2D", "Upsample2D"]
unet_target_name = ["conv_in", "conv_out", "time_embedding.linear_1"]
text_encoder_target_module = []
text_encoder_target_name = []
"""
# name, family, words of --network_args
NETWORKS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("LoRA of linear layers (kohya's names)", "sd15", {"algo": "lora", "preset": "attn-mlp"}),
    ("LoCon: linear, 1x1 and 3x3 layers (kohya's names)", "sd15", {"algo": "lora", "conv_dim": 2}),
    ("LoCon with a middle factor", "sd15", {"algo": "lora", "conv_dim": 2, "use_tucker": True}),
    ("LoCon, rank-stabilised", "sd15", {"algo": "lora", "rs_lora": True}),
    ("LoCon of SDXL (kohya's names)", "sdxl", {"algo": "lora", "preset": "attn-mlp"}),
    ("LoCon with trained norms", "sd15", {"algo": "lora", "train_norm": True}),
    ("LoCon with a scalar", "sd15", {"algo": "lora", "use_scalar": True}),
    ("DoRA", "sd15", {"algo": "lora", "dora_wd": True}),
    ("LoHa", "sd15", {"algo": "loha"}),
    ("LoKr", "sd15", {"algo": "lokr", "factor": 4}),
    ("(IA)^3", "sd15", {"algo": "ia3"}),
    ("full differences", "sd15", {"algo": "full", "preset": "attn-mlp"}),
    ("full differences and norms", "sd15", {"algo": "full", "train_norm": True}),
    ("GLoRA", "sd15", {"algo": "glora", "preset": "attn-mlp"}),
    ("Diag-OFT", "sd15", {"algo": "diag-oft", "preset": "attn-mlp"}),
    ("BOFT", "sd15", {"algo": "boft", "preset": "attn-mlp"}),
)


def make(work: Path) -> None:
    preset = work / "lycoris.toml"
    preset.write_text(PRESET)
    for number, (name, family, words) in enumerate(NETWORKS):
        _one(work, f"lycoris{number}", name, family, {"preset": str(preset), **words})


def _one(work: Path, place: str, name: str, family: str, words: dict[str, Any]) -> None:
    file = work / f"{place}.safetensors"
    trained = unet(family)
    network = create_network(1.0, RANK, ALPHA, None, [], trained, **words)
    network.apply_to([], None, False, True)
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim:
                parameter += 0.1 * torch.randn(parameter.shape, generator=source)
            else:  # a scalar that begins at zero and multiplies a whole difference
                parameter.fill_(0.8)
    network.save_weights(str(file), torch.float32, {"ss_network_module": "lycoris.kohya"})
    # Not read back from the file: 4.1.3 cannot load the (IA)^3 files that it writes. Of all others
    # here both ways give the same.
    network.restore()
    network.merge_to([], trained, network.state_dict(), None, None)
    after, merged = weights(trained), unet(family)
    merged.load_state_dict({name: after[name] for name in merged.state_dict()})
    merged.save_pretrained(work / f"{place}_merged")
    case = Case(
        name=f"LyCORIS {name}",
        tool=TOOL,
        base=f"{family}.safetensors",
        tuned=file.name,
        expected=f"{place}.expected.safetensors",
        merged=f"{place}_merged",
    )
    note(work, case, difference(weights(merged), weights(unet(family))))
