"""Latents of a MODEL: how large, and with an axis of time where its network has one.

The core's latents are [n, c, h, w] throughout. Families that share their classes with video models
(Qwen-Image, Cosmos, Wan) take and give [n, c, 1, h, w].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

# Pixels to a latent's side, where hosts before 0.16 do not say.
_PIXELS = {"Flux2": 16, "HunyuanImage21": 32, "ChromaRadiance": 1}


def pixels_each(model: ModelPatcher) -> int:
    """How many pixels wide and high one place of a latent is."""
    known = model.get_model_object("latent_format")
    said = getattr(known, "spacial_downscale_ratio", None)
    return int(said or _PIXELS.get(type(known).__name__, 8))


def latent_shape(model: ModelPatcher, height: int, width: int) -> tuple[int, int, int]:
    """(c, h, w) of a picture of so many pixels."""
    side = pixels_each(model)
    channels = model.get_model_object("latent_format").latent_channels
    return channels, height // side, width // side


def has_time(model: ModelPatcher) -> bool:
    """Whether the network's latents have an axis of time."""
    return bool(getattr(model.get_model_object("latent_format"), "latent_dimensions", 2) == 3)


def with_time(model: ModelPatcher, latents: torch.Tensor) -> torch.Tensor:
    """[n, c, h, w] as the network takes it."""
    return latents.unsqueeze(2) if has_time(model) else latents


def without_time(latents: torch.Tensor) -> torch.Tensor:
    """[n, c, h, w] of latents with or without an axis of time; several frames stay as they are."""
    return latents.squeeze(2) if latents.ndim == 5 and latents.shape[2] == 1 else latents


def scaled(model: ModelPatcher, latents: torch.Tensor) -> torch.Tensor:
    """Latents [n, c, h, w] of the VAE, scaled the way the network wants them."""
    return without_time(model.model.process_latent_in(with_time(model, latents)))


def encoded(vae: Any, pictures: torch.Tensor) -> torch.Tensor:
    """Latents of float pictures [n, H, W, 3], [n, c, h, w]. A VAE for videos would take the
    pictures for frames of one, so it gets them one by one."""
    if getattr(vae, "latent_dim", 2) == 3:
        return torch.cat([without_time(vae.encode(one)) for one in pictures.split(1)])
    return vae.encode(pictures)


def decoded(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Pictures [n, H, W, 3 or more] of latents [n, c, h, w], as the VAE gives them."""
    if getattr(vae, "latent_dim", 2) == 3:
        return vae.decode(latents.unsqueeze(2)).flatten(0, 1)
    return vae.decode(latents)
