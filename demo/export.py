"""Write the demo model: one safetensors file of half-precision weights, small enough to ship."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

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
    path = written(tensors, folder / "demo_model.safetensors")
    (folder / "text_config.json").write_text(
        json.dumps(config["text"], indent=2) + "\n", encoding="utf-8"
    )
    return path


def export_flow(averaged: dict[str, torch.Tensor], folder: Path) -> Path:
    """Write demo_flow.safetensors, the transformer alone, into `folder`; returns the file."""
    tensors = {UNET + k: v for k, v in averaged.items()}
    return written(tensors, folder / "demo_flow.safetensors")


def written(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    """Store in half precision, numbers of tokens as int32."""
    stored = {
        k: (v.half() if v.is_floating_point() else v.to(torch.int32)).contiguous()
        for k, v in tensors.items()
    }
    save_file(stored, path, metadata={"tverase.kind": "demo_model", "format": "pt"})
    return path


def read_model(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The shipped model's state dicts as they were in training: "text" and "vae", float32."""
    tensors = load_file(folder / "demo_model.safetensors")
    parts: dict[str, dict[str, torch.Tensor]] = {"text": {}, "vae": {}}
    for key, value in tensors.items():
        value = value.float() if value.is_floating_point() else value.long()
        if key.startswith(TEXT):
            name = key.removeprefix(TEXT)
            parts["text"]["rows.weight" if name == "rows" else name] = value
        elif key.startswith(VAE_PART):
            parts["vae"][key.removeprefix(VAE_PART)] = value
    return parts
