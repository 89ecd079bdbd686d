"""What every contender reads: weights, latents and the text of an empty caption, all random."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from bench.size_parts.big_model import noise, shapes
from devtools import in_process

from .sizes import GIVEN_FILE, TEXT_FILE, UNET_FILE, Place


def make(place: Place) -> None:
    """Writes the three files, the UNet in float16 as checkpoints are, under ComfyUI's names."""
    unet, text = tiny_shapes(place.comfyui) if place.tiny else (shapes("sd15"), tower_shapes())
    size, draw = place.size, noise(0)
    save_file(
        {f"model.{key}": value.half() for key, value in weights(unet, 0).items()},
        place.material / UNET_FILE,
    )
    save_file(weights(text, 1), place.material / TEXT_FILE)
    given = {
        "latents": draw(torch.Size((size.pictures, 4, size.side, size.side)), 1.0),
        "small": draw(torch.Size((size.pictures, 4, *[size.inversion_side] * 2)), 1.0),
        "empty": draw(torch.Size((1, size.tokens, size.width)), 1.0),
    }
    save_file(
        {name: value.contiguous() for name, value in given.items()}, place.material / GIVEN_FILE
    )


def weights(wanted: dict[str, list[int]], seed: int) -> dict[str, torch.Tensor]:
    """Normal with a standard deviation of 1 / sqrt(inputs), norms and biases near 1 and 0."""
    draw, made = noise(seed), {}
    for key, shape in wanted.items():
        size = torch.Size(shape)
        level = 0.02 if "embedding" in key or len(size) < 2 else size[1:].numel() ** -0.5
        values = draw(size, level)
        made[key] = values + 1 if len(size) == 1 and key.endswith("weight") else values
    return made


def tower_shapes() -> dict[str, list[int]]:
    """CLIP-L's text tower, by the names of a file that holds it alone."""
    prefix = "clip_l.transformer."
    return {k.removeprefix(prefix): s for k, s in shapes("clip_l").items() if k.startswith(prefix)}


def tiny_shapes(comfyui: Path) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    in_process.import_host(comfyui)
    from host_support import tiny_host

    unet = tiny_host.build_model().model.diffusion_model
    text = tiny_host.build_clip().cond_stage_model.clip_l.transformer
    both = ((unet, "diffusion_model."), (text, ""))
    found = [
        {prefix + name: list(value.shape) for name, value in module.state_dict().items()}
        for module, prefix in both
    ]
    return found[0], found[1]
