"""The loss of a fine-tune, raw and smoothed."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from .figure import BLUE, GREY, new_figure, to_picture


def smoothed(losses: Sequence[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average without the bias of its start."""
    average, values = 0.0, []
    for count, loss in enumerate(losses, 1):
        average = weight * average + (1 - weight) * loss
        values.append(average / (1 - weight**count))
    return values


def loss_curve(losses: Sequence[float], steps: int, title: str) -> Image.Image:
    """Loss against step, the axis as long as the whole run."""
    figure = new_figure()
    axes = figure.subplots()
    numbers = range(1, len(losses) + 1)
    axes.plot(numbers, losses, color=GREY, linewidth=0.8, alpha=0.6, label="loss of the step")
    axes.plot(numbers, smoothed(losses), color=BLUE, linewidth=2.2, label="smoothed")
    axes.set_xlim(1, max(steps, 2))
    axes.set_xlabel("step")
    axes.set_ylabel("denoising loss")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")
    return to_picture(figure)
