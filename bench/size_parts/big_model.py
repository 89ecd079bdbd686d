"""A MODEL of a real checkpoint's architecture and size, with random weights."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
POOL = 1 << 22  # random numbers drawn; larger tensors repeat them, which neither time nor
# rounding can tell


def shapes(name: str) -> dict[str, list[int]]:
    """Names and shapes of one model of tests/data/model_keys.json.gz."""
    packed = (ROOT / "tests" / "data" / "model_keys.json.gz").read_bytes()
    found: dict[str, list[int]] = json.loads(gzip.decompress(packed))[name]
    return found


def names() -> list[str]:
    """Diffusion models in that file."""
    packed = (ROOT / "tests" / "data" / "model_keys.json.gz").read_bytes()
    return [name for name in json.loads(gzip.decompress(packed)) if not name.startswith("clip_")]


def noise(seed: int) -> Callable[[torch.Size, float], torch.Tensor]:
    """(shape, size) -> normal float32 values of that standard deviation."""
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(seed))
    offset = 0

    def draw(shape: torch.Size, size: float) -> torch.Tensor:
        nonlocal offset
        count = shape.numel()
        offset = (offset + 104729) % POOL
        line = pool.roll(-offset)
        return (line.repeat(-(-count // POOL))[:count] * size).reshape(shape)

    return draw


def build(
    name: str,
    storage: torch.dtype,
    compute: torch.dtype,
    filled: Callable[[str], bool] = lambda key: True,
) -> Any:
    """The MODEL as the host's loader recognises and makes it, on the CPU.

    Weights are normal with a standard deviation of 1 / sqrt(inputs); of one axis 0.5 with 0.02.
    filled: keys of the weights that get values; others stay as they are allocated.
    """
    import comfy.model_detection
    import comfy.model_patcher

    meta = {key: torch.empty(shape, device="meta") for key, shape in shapes(name).items()}
    with torch.inference_mode():
        config = comfy.model_detection.model_config_from_unet(meta, "diffusion_model.")
        config.set_inference_dtype(storage, None if storage == compute else compute)
        model = config.get_model({}, "diffusion_model.", device="cpu")
        draw = noise(0)
        for key, parameter in model.named_parameters():
            if not filled(key):
                continue
            size = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.02
            values = draw(parameter.shape, size)
            parameter.copy_(values if parameter.ndim > 1 else values + 0.5)
    place = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=place, offload_device=place)


def deltas(weights: Mapping[str, torch.Size], share: float) -> dict[str, torch.Tensor]:
    """float32 noise on the given weights, `share` of the size that `build` gives them."""
    draw = noise(1)
    return {
        key: draw(shape, share * (shape[1:].numel() ** -0.5 if len(shape) > 1 else 0.5))
        for key, shape in weights.items()
    }
