"""The widgets of Diverse Inversion, in their frozen order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...tverase_core.inversion.config import RANDOM, InversionConfig, paper_intervals
from ..shared.drawing_settings import seed_widget

SPREADS = ("apart", "near to far")

SETTINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "prompt": (
        "STRING",
        {
            "default": "",
            "tooltip": "Plain prompt that draws the concept, for the check of the judge. Empty: "
            "the template with the concept's name.",
        },
    ),
    "count": (
        "INT",
        {
            "default": 10,
            "min": 1,
            "max": 256,
            "tooltip": "How many different embeddings to find. Half of them choose the strength, "
            "half verify it, so give 10 or more.",
        },
    ),
    "steps": (
        "INT",
        {"default": 500, "min": 1, "max": 100000, "tooltip": "Optimizer steps, all in one batch."},
    ),
    "learning_rate": (
        "FLOAT",
        {
            "default": 5e-3,
            "min": 1e-6,
            "max": 10.0,
            "step": 1e-4,
            "round": False,
            "tooltip": "5e-3 for full-size models, 5e-2 for the demo model. Falls to a tenth.",
        },
    ),
    "batch": (
        "INT",
        {
            "default": 2,
            "min": 1,
            "max": 256,
            "tooltip": "Pictures each embedding sees in a step.",
        },
    ),
    "seed": seed_widget("Same seed, same embeddings."),
    "spread": (
        list(SPREADS),
        {
            "default": "apart",
            "tooltip": "'apart' pushes the embeddings away from one another. 'near to far' also "
            "holds each in its own band of similarity to the concept's word, as in the paper's "
            "figure 1.",
        },
    ),
    "vectors": (
        "INT",
        {
            "default": 1,
            "min": 1,
            "max": 32,
            "tooltip": "Token vectors an embedding. More find the concept more easily.",
            "advanced": True,
        },
    ),
    "diversity": (
        "FLOAT",
        {
            "default": 0.1,
            "min": 0.0,
            "max": 100.0,
            "step": 0.01,
            "tooltip": "How hard embeddings push one another away. 0 is not at all.",
            "advanced": True,
        },
    ),
    "cosine_cap": (
        "FLOAT",
        {
            "default": 0.2,
            "min": -1.0,
            "max": 1.0,
            "step": 0.01,
            "tooltip": "Pairs less alike than this (cosine) do not push.",
            "advanced": True,
        },
    ),
    "template": (
        "STRING",
        {
            "default": "a {}",
            "tooltip": "The sentence around an embedding, with one {}.",
            "advanced": True,
        },
    ),
    "start": (
        "STRING",
        {
            "default": "",
            "tooltip": "A word to start from. Empty: random words of the vocabulary.",
            "advanced": True,
        },
    ),
    "checks": (
        "INT",
        {
            "default": 8,
            "min": 1,
            "max": 256,
            "tooltip": "Pictures that each embedding draws; the judge must fire on half of them.",
            "advanced": True,
        },
    ),
    "restarts": (
        "INT",
        {
            "default": 1,
            "min": 0,
            "max": 10,
            "tooltip": "How often embeddings that fail the check start anew.",
            "advanced": True,
        },
    ),
    "at_once": (
        "INT",
        {
            "default": 0,
            "min": 0,
            "max": 256,
            "tooltip": "Embeddings held in memory at once. 0 is all; lower it when memory runs "
            "out. Same result up to rounding.",
            "advanced": True,
        },
    ),
    "resumable": (
        "BOOLEAN",
        {
            "default": False,
            "tooltip": "Keep unfinished work in output/inversion_sets/unfinished: a stopped run "
            "then goes on where it was when queued again. Off, a stopped run leaves nothing.",
            "advanced": True,
        },
    ),
}


def inversion_config(widgets: Mapping[str, Any]) -> InversionConfig:
    """The widgets as settings of the engine. Raises ConfigError."""
    count, bands = widgets["count"], paper_intervals()
    near_to_far = tuple(bands[k % len(bands)] for k in range(count))
    return InversionConfig(
        count=count,
        vectors=widgets["vectors"],
        steps=widgets["steps"],
        learning_rate=widgets["learning_rate"],
        final_rate=0.1,
        batch=widgets["batch"],
        seed=widgets["seed"],
        diversity=widgets["diversity"],
        cosine_cap=widgets["cosine_cap"],
        intervals=near_to_far if widgets["spread"] == SPREADS[1] else None,
        template=widgets["template"],
        start=widgets["start"].strip() or RANDOM,
        chunk=widgets["at_once"] or None,
    )
