"""Interference as two tables: predicted damage, and cosines by block for each pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ...tverase_core.vector.interference import Interference
from .damage_table import draw_damage
from .figure import new_figure, to_picture


def interference_map(found: Interference, blocks: Sequence[str]) -> Image.Image:
    """Left: row erased, column hit, in per cent. Right: one column of block cosines a pair."""
    count = len(found.names)
    height = 1.6 + max(0.45 * count, 0.22 * len(blocks))
    figure = new_figure(5.0 + 0.9 * count + 0.7 * len(found.blocks), height)
    left, right = figure.subplots(1, 2, width_ratios=[count, max(2, len(found.blocks))])
    draw_damage(left, found.damage.numpy(), found.names, found.names, "Predicted damage")
    pairs = list(found.blocks)
    table = np.array([[found.blocks[pair].get(b, np.nan) for pair in pairs] for b in blocks])
    drawn = right.imshow(table, cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto")
    names = [f"{found.names[i]}, {found.names[j]}" for i, j in pairs]
    right.set_xticks(range(len(pairs)), names, rotation=30, ha="right")
    right.set_yticks(range(len(blocks)), blocks)
    right.set_title("Cosine by block")
    figure.colorbar(drawn, ax=right, label="cosine")
    return to_picture(figure)
