"""From a matplotlib figure to a picture, without touching pyplot's global state."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image

# Okabe and Ito's palette: readable with any kind of colour vision.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7F7F7F"


def new_figure(width: float = 6.4, height: float = 3.6) -> Any:
    """An empty figure of that many inches at 100 dots an inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def to_picture(figure: Any) -> Image.Image:
    """The figure as an RGB picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """An IMAGE of the host: float32 [1, H, W, 3] in 0..1."""
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255)[None]
