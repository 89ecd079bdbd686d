"""The UNet as rows of blocks and columns of kinds, coloured by what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from ...tverase_core.model.block_mask import BlockMask
from ...tverase_core.model.layout import ModelLayout
from .figure import new_figure, to_picture

KINDS = ("self_attn", "cross_attn", "ff", "conv", "norm", "proj", "embed", "other")


def value_map(
    values: Mapping[tuple[str, str], float], blocks: Sequence[str], title: str, label: str
) -> Image.Image:
    """values: by (block, kind); cells without a value stay white."""
    kinds = [kind for kind in KINDS if any((block, kind) in values for block in blocks)]
    table = np.full((len(blocks), len(kinds)), np.nan)
    for r, block in enumerate(blocks):
        for c, kind in enumerate(kinds):
            table[r, c] = values.get((block, kind), np.nan)
    figure = new_figure(5.2, 1.4 + 0.24 * len(blocks))
    axes = figure.subplots()
    top = max(1e-12, float(np.nanmax(table))) if np.isfinite(table).any() else 1.0
    drawn = axes.imshow(table, cmap="cividis", vmin=0, vmax=top, aspect="auto")
    axes.set_xticks(range(len(kinds)), kinds, rotation=30, ha="right")
    axes.set_yticks(range(len(blocks)), blocks)
    axes.set_title(title)
    figure.colorbar(drawn, ax=axes, label=label)
    return to_picture(figure)


def block_map(mask: BlockMask, layout: ModelLayout, keys: Mapping[str, object]) -> Image.Image:
    """Mean mask coefficient of each (block, kind)."""
    sums: dict[tuple[str, str], list[float]] = {}
    for key in keys:
        sums.setdefault(layout.locate(key), []).append(mask.coefficient(key, layout))
    values = {place: sum(found) / len(found) for place, found in sums.items()}
    blocks = [b for b in layout.blocks() if any(place[0] == b for place in values)]
    return value_map(values, blocks, "What the edit touches", "mask coefficient")
