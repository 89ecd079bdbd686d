"""The widgets of the baselines, in their frozen order."""

from __future__ import annotations

from typing import Any

from ..shared.drawing_settings import seed_widget

Widgets = dict[str, tuple[Any, dict[str, Any]]]

ESD_SETTINGS: Widgets = {
    "prompts": (
        "STRING",
        {
            "default": "a cat",
            "multiline": True,
            "tooltip": "Prompts of the concept, one a line; one is drawn at each step.",
        },
    ),
    "variant": (
        ["x", "u"],
        {
            "default": "x",
            "tooltip": "x trains the cross-attention layers, u all the others.",
        },
    ),
    "steps": ("INT", {"default": 200, "min": 1, "max": 100000, "tooltip": "Optimizer steps."}),
    "learning_rate": (
        "FLOAT",
        {
            "default": 5e-5,
            "min": 1e-8,
            "max": 1.0,
            "step": 1e-6,
            "round": False,
            "tooltip": "5e-5 for full-size models, larger for the demo model.",
        },
    ),
    "batch_size": ("INT", {"default": 1, "min": 1, "max": 1024, "tooltip": "Samples a step."}),
    "seed": seed_widget("Same seed, same edit."),
    "eta": (
        "FLOAT",
        {
            "default": 1.0,
            "min": 0.01,
            "max": 100.0,
            "step": 0.05,
            "tooltip": "How far away from the concept to steer.",
            "advanced": True,
        },
    ),
    "anchor": (
        ["null", "concept"],
        {
            "default": "null",
            "tooltip": "Where the target starts from: the empty prompt (paper), or the concept "
            "(the authors' later code, with eta 2).",
            "advanced": True,
        },
    ),
}

UCE_SETTINGS: Widgets = {
    "concepts": (
        "STRING",
        {"default": "cat", "multiline": True, "tooltip": "Names to erase, one a line."},
    ),
    "guide": (
        "STRING",
        {
            "default": "",
            "tooltip": "What the concept shall act like, such as 'animal'. Empty: like no prompt.",
        },
    ),
    "preserve": (
        "STRING",
        {
            "default": "",
            "multiline": True,
            "tooltip": "Names that must stay as they are, one a line.",
        },
    ),
    "keep": (
        "FLOAT",
        {
            "default": 0.5,
            "min": 1e-4,
            "max": 1000.0,
            "step": 0.05,
            "tooltip": "Pull of every weight towards its old value. Smaller erases more.",
            "advanced": True,
        },
    ),
    "preserve_weight": (
        "FLOAT",
        {
            "default": 1.0,
            "min": 0.0,
            "max": 1000.0,
            "step": 0.05,
            "tooltip": "Weight of the preserved names against the erased ones.",
            "advanced": True,
        },
    ),
}
