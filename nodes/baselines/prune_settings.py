"""The widgets of ConceptPrune, in their frozen order."""

from __future__ import annotations

from typing import Any

from ..shared.drawing_settings import seed_widget

PLACES = ("in a room", "in a garden", "in a forest", "on a street", "on a beach", "on a field")

PRUNE_SETTINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "prompts": (
        "STRING",
        {
            "default": "\n".join(f"a cat {place}" for place in PLACES),
            "multiline": True,
            "tooltip": "Prompts with the concept, one a line.",
        },
    ),
    "contrast": (
        "STRING",
        {
            "default": "\n".join(place.partition(" ")[2] for place in PLACES),
            "multiline": True,
            "tooltip": "The same prompts without the concept: one line for each, in the same "
            "order, or one for all. Both of a pair are drawn from the same seed.",
        },
    ),
    "ratio": (
        "FLOAT",
        {
            "default": 0.01,
            "min": 0.0001,
            "max": 1.0,
            "step": 0.005,
            "round": False,
            "tooltip": "Share of each output's weights that one step may prune. Larger erases "
            "more, and more of everything else.",
        },
    ),
    "steps_used": (
        "INT",
        {
            "default": 10,
            "min": 1,
            "max": 1000,
            "tooltip": "The first so many sampling steps choose weights, and no more are drawn. "
            "What any of them chooses is pruned.",
        },
    ),
    "seed": seed_widget("Pair i is drawn from seed + i. Same seed, same edit."),
    "pictures_per_prompt": (
        "INT",
        {
            "default": 2,
            "min": 1,
            "max": 1000,
            "tooltip": "Seeds of each prompt. With few prompts take more.",
        },
    ),
}
