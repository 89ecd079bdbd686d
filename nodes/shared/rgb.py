"""Pictures of other nodes as what every network here takes: red, green and blue in 0..1."""

from __future__ import annotations

import torch

from ...tverase_core.errors import ConfigError, ShapeMismatchError

ROOM = 0.5  # what a resampling may overshoot 0..1 by


def rgb(name: str, images: torch.Tensor) -> torch.Tensor:
    """float [n, H, W, 3] of an IMAGE [n, H, W, 1, 3 or 4] in 0..1.

    Grey becomes three equal channels, transparent parts become white. name: the input, for the
    sentences. Raises ShapeMismatchError, ConfigError (0..255, -1..1, whole numbers).
    """
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        raise ShapeMismatchError(
            f"`{name}`: expected pictures [n, height, width, channels] with 1, 3 or 4 channels, "
            f"got {list(images.shape)}. Connect an IMAGE output.",
            name,
            (),
            images.shape,
        )
    low, high = (float(v) for v in images.aminmax()) if images.numel() else (0.0, 1.0)
    if not images.is_floating_point() or low < -ROOM or high > 1 + ROOM:
        raise ConfigError(
            f"`{name}`: values go from {low:g} to {high:g} ({images.dtype}), pictures of ComfyUI "
            "from 0 to 1. Divide pictures of 0 to 255 by 255, and add 1 to those of -1 to 1 and "
            "halve them, in the node that makes them."
        )
    if images.shape[-1] == 4:
        alpha = images[..., 3:].clamp(0, 1)
        return images[..., :3] * alpha + (1 - alpha)
    return images.expand(*images.shape[:3], 3)
