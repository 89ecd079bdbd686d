"""Write the demo model: one safetensors file of half-precision weights, small enough to ship."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

UNET, TEXT, VAE_PART = "diffusion_model.", "text_encoder.", "vae."


def export(
    averaged: dict[str, dict[str, torch.Tensor]],
    autoencoder: torch.nn.Module,
    config: dict,
    folder: Path,
) -> Path:
    """Write demo_model.safetensors and text_config.json into `folder`; returns the weights file."""
    tensors = {UNET + k: v for k, v in averaged["unet"].items()}
    for key, value in averaged["text"].items():
        # the rows are the weight of an embedding in training, a plain table in the file
        tensors[TEXT + ("rows" if key == "rows.weight" else key)] = value
    tensors.update({VAE_PART + k: v for k, v in autoencoder.state_dict().items()})
    stored = {
        k: (v.half() if v.is_floating_point() else v.to(torch.int32)).contiguous()
        for k, v in tensors.items()
    }
    path = folder / "demo_model.safetensors"
    save_file(stored, path, metadata={"tverase.kind": "demo_model", "format": "pt"})
    (folder / "text_config.json").write_text(
        json.dumps(config["text"], indent=2) + "\n", encoding="utf-8"
    )
    return path
