"""The widgets of Few-shot Unlearning and of applying its vectors, in their frozen order."""

from __future__ import annotations

from typing import Any

from ...tverase_core.erasers.caption_templates import TEMPLATES
from ..shared.drawing_settings import seed_widget

Widgets = dict[str, tuple[Any, dict[str, Any]]]

FEW_SHOT_SETTINGS: Widgets = {
    "concept": (
        "STRING",
        {
            "default": "",
            "tooltip": "The concept's name, as prompts say it. Empty: the concept set's.",
        },
    ),
    "captions": (
        "STRING",
        {
            "default": "\n".join(TEMPLATES),
            "multiline": True,
            "tooltip": "Captions of the pictures, one a line; {} stands for the concept's name. "
            "One is drawn for each picture at each step.",
        },
    ),
    "steps": (
        "INT",
        {
            "default": 8,
            "min": 1,
            "max": 100000,
            "tooltip": "Optimizer steps. Each goes further away, without an end: too many spoil "
            "every prompt.",
        },
    ),
    "batch_size": ("INT", {"default": 2, "min": 1, "max": 1024, "tooltip": "Pictures a step."}),
    "learning_rate": (
        "FLOAT",
        {
            "default": 1e-5,
            "min": 1e-8,
            "max": 1.0,
            "step": 1e-6,
            "round": False,
            "tooltip": "1e-5 for full-size models (the paper), 2e-3 for the demo model.",
        },
    ),
    "seed": seed_widget("Same seed, same edit."),
    "pictures": (
        "INT",
        {
            "default": 4,
            "min": 0,
            "max": 4096,
            "tooltip": "How many of the set's pictures are used, the first ones. 0: all.",
            "advanced": True,
        },
    ),
}

CLIP_STRENGTH: Widgets = {
    "strength": (
        "FLOAT",
        {
            "default": 1.0,
            "min": 0.0,
            "max": 100.0,
            "step": 0.01,
            "tooltip": "How much is subtracted. 0 changes nothing, 1 is the method's own edit.",
        },
    ),
    "other_weights": (
        ["refuse", "allow"],
        {
            "default": "refuse",
            "tooltip": "What to do when the CLIP has the right architecture but other weights than "
            "the vector was made from, for example a merge.",
            "advanced": True,
        },
    ),
}
