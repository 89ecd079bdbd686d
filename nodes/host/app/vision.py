"""Feature vectors of pictures by the host's CLIP vision model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

BATCH = 32


@dataclass(frozen=True, slots=True)
class VisionFeatures:
    """Pictures float [n, H, W, 3] in 0..1 -> float32 [n, d] on the CPU."""

    clip_vision: Any

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        parts = [
            self.clip_vision.encode_image(part.clone())["image_embeds"].float().cpu()
            for part in images.split(BATCH)
        ]
        return torch.cat(parts).clone()
