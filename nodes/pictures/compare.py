"""Before and after, side by side at equal seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

GAP, HEADER, SMALLEST = 6, 26, 128


def compare_grid(rows: Sequence[tuple[str, torch.Tensor]], columns: int) -> Image.Image:
    """One labelled row of pictures per entry; IMAGE tensors float [n, H, W, 3] in 0..1.

    Pictures under 128 pixels are enlarged by a whole factor, so that they can be seen on a node.
    """
    height, width = rows[0][1].shape[1:3]
    zoom = max(1, -(-SMALLEST // min(height, width)))
    cell_w, cell_h = width * zoom, height * zoom
    columns = min(columns, max(len(images) for _, images in rows))
    canvas = Image.new(
        "RGB",
        (GAP + columns * (cell_w + GAP), len(rows) * (HEADER + cell_h + GAP) + GAP),
        (250, 250, 250),
    )
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for r, (label, images) in enumerate(rows):
        top = GAP + r * (HEADER + cell_h + GAP)
        pen.text((GAP + 2, top + 3), label, fill=(30, 30, 30), font=font)
        for c, image in enumerate(images[:columns]):
            pixels = (image[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
            tile = Image.fromarray(np.ascontiguousarray(pixels)).resize(
                (cell_w, cell_h), Image.Resampling.NEAREST if zoom > 1 else Image.Resampling.LANCZOS
            )
            canvas.paste(tile, (GAP + c * (cell_w + GAP), top + HEADER))
    return canvas
