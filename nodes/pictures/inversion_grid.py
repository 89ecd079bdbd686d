"""What each inversion draws: one row of pictures an embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from PIL import Image

from .compare import compare_grid

MOST_ROWS = 24  # more rows cannot be read on a node


def inversion_grid(
    labels: Sequence[str], pictures: Mapping[int, torch.Tensor], columns: int = 4
) -> Image.Image:
    """labels: one an embedding; pictures: by embedding number, float [n, H, W, 3] in 0..1."""
    rows = [(labels[k], pictures[k]) for k in sorted(pictures) if k < len(labels)]
    top = rows[:MOST_ROWS]
    if len(rows) > MOST_ROWS:
        label, images = top[-1]
        top[-1] = (f"{label} (and {len(rows) - MOST_ROWS} more, not shown)", images)
    return compare_grid(top, columns)
