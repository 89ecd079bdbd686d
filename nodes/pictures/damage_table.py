"""A table of damage: a row for what is erased, a column for what it takes from, in per cent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ...tverase_core.judging.measured_damage import MeasuredDamage
from .figure import new_figure, to_picture


def draw_damage(
    axes: Any, damage: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str
) -> None:
    """damage: float [rows, columns], 1 is all of it."""
    percent = 100 * damage
    # PuOr keeps its order for every kind of colour vision; white is "untouched".
    axes.imshow(percent, cmap="PuOr_r", vmin=-100, vmax=100, aspect="auto")
    for (i, j), value in np.ndenumerate(percent):
        color = "white" if abs(value) > 70 else "black"
        axes.text(j, i, f"{value:.0f}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("... takes this much of, %")
    axes.set_ylabel("Erasing ...")
    axes.set_title(title)


def damage_picture(found: MeasuredDamage) -> Image.Image:
    """The measured table."""
    figure = new_figure(2.6 + 0.9 * len(found.names), 1.8 + 0.45 * len(found.rows))
    title = f"Measured, {found.pictures} pictures each"
    draw_damage(figure.add_subplot(), found.damage().numpy(), found.rows, found.names, title)
    return to_picture(figure)
