"""UNets of SD 1.5's and SDXL's structure a tenth as wide, as diffusers builds them."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

# Keys of ComfyUI's UNet configuration, from which it knows diffusers' names.
SD15 = {
    "block_out_channels": (32, 64, 128, 128),
    "cross_attention_dim": 48,
    "layers_per_block": 2,
    "attention_head_dim": 4,
    "sample_size": 8,
}
SDXL = {
    "block_out_channels": (32, 64, 128),
    "cross_attention_dim": 48,
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (2, 4, 8),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 80,
    "sample_size": 8,
}
SHAPES = {"sd15": SD15, "sdxl": SDXL}


def unet(family: str) -> UNet2DConditionModel:
    """The same weights each time; they stay still."""
    torch.manual_seed(7)
    made = UNet2DConditionModel(**SHAPES[family]).eval()
    made.requires_grad_(False)
    for name, parameter in made.named_parameters():
        if "norm" in name or name.endswith("bias"):
            parameter += 0.1 * torch.randn_like(parameter)
    return made


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def randomise(tensors: object, seed: int = 11) -> None:
    """As if trained: no factor is zero any more, and a delta is about as large as its weight."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in tensors:  # type: ignore[attr-defined]
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=source).to(tensor))


def save_bases(work: Path) -> None:
    for family in SHAPES:
        unet(family).save_pretrained(work / family)
