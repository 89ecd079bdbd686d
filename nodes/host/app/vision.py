"""Feature vectors of pictures by the host's CLIP vision model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

BATCH = 32


def vision_features(clip_vision: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function: pictures float [n, H, W, 3] in 0..1 -> float32 [n, d] on the CPU."""

    @torch.no_grad()
    def features(images: torch.Tensor) -> torch.Tensor:
        parts = [
            clip_vision.encode_image(part.clone())["image_embeds"].float().cpu()
            for part in images.split(BATCH)
        ]
        return torch.cat(parts).clone()

    return features
