"""The widgets of Auto Block Mask, in their frozen order."""

from __future__ import annotations

from typing import Any

from ..shared.drawing_settings import seed_widget
from ..shared.retained_prompts import RETAINED

SETTINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "retained": RETAINED,
    "by_kind": (
        "BOOLEAN",
        {
            "default": False,
            "tooltip": "Rank each kind of layer in each block by itself: finer, slower.",
        },
    ),
    "seed": seed_widget("Seed of the noise that is measured with, and of the retained pictures."),
    "fraction": (
        "FLOAT",
        {
            "default": 0.8,
            "min": 0.05,
            "max": 1.0,
            "step": 0.05,
            "tooltip": "The fewest blocks are kept that reach this share of the whole vector's "
            "erasure.",
            "advanced": True,
        },
    ),
    "strength": (
        "FLOAT",
        {
            "default": 1.0,
            "min": 0.01,
            "max": 100.0,
            "step": 0.05,
            "tooltip": "Strength at which blocks are compared.",
            "advanced": True,
        },
    ),
    "probes": (
        "INT",
        {
            "default": 16,
            "min": 1,
            "max": 1024,
            "tooltip": "Noised pictures a measure. More is surer and slower.",
            "advanced": True,
        },
    ),
    "most_triggers": (
        "INT",
        {
            "default": 4,
            "min": 1,
            "max": 256,
            "tooltip": "Embeddings of the set that are measured with.",
            "advanced": True,
        },
    ),
}
