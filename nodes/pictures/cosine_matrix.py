"""How alike the embeddings of a set are, pair by pair."""

from __future__ import annotations

import torch
from PIL import Image

from .figure import new_figure, to_picture

MOST_NUMBERS = 12  # from here on numbers in the cells would overlap


def cosine_matrix(cosines: torch.Tensor, title: str) -> Image.Image:
    """cosines: float [n, n] in -1..1; the diagonal is left white."""
    count = len(cosines)
    table = cosines.detach().cpu().double().clone()
    table[torch.eye(count, dtype=torch.bool)] = float("nan")
    figure = new_figure(4.8, 4.2)
    axes = figure.subplots()
    # PuOr keeps its order for every kind of colour vision; white is "nothing in common".
    drawn = axes.imshow(table.numpy(), cmap="PuOr_r", vmin=-1, vmax=1)
    step = max(1, count // 16)
    axes.set_xticks(range(0, count, step), range(1, count + 1, step))
    axes.set_yticks(range(0, count, step), range(1, count + 1, step))
    axes.set_xlabel("embedding")
    axes.set_title(title)
    if count <= MOST_NUMBERS:
        for i in range(count):
            for j in range(count):
                if i != j:
                    value = float(table[i, j])
                    color = "white" if abs(value) > 0.7 else "black"
                    axes.text(
                        j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color
                    )
    figure.colorbar(drawn, ax=axes, label="cosine")
    return to_picture(figure)
