"""The widgets of Auto-Strength, in their frozen order, and the search they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...tverase_core.strength.choice import SearchConfig
from ...tverase_core.strength.curve import StrengthGrid, StrengthRule
from ..shared.drawing_settings import seed_widget
from ..shared.retained_prompts import RETAINED

INFEASIBLE = ("stop", "nearest")
SPAN = 100_000  # seeds of each purpose start this far apart, so that none is used twice

SETTINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "prompt": (
        "STRING",
        {
            "default": "",
            "tooltip": "Plain prompt of the concept; it counts as a trigger too. Empty: the "
            "inversion set's template with the concept's name.",
        },
    ),
    "retained": RETAINED,
    "target": (
        "FLOAT",
        {
            "default": 0.15,
            "min": 0.01,
            "max": 0.99,
            "step": 0.01,
            "tooltip": "The concept may still be seen in this share of pictures at most, for "
            "every trigger, with 95 % confidence.",
        },
    ),
    "budget": (
        "FLOAT",
        {
            "default": 0.9,
            "min": 0.0,
            "max": 1.0,
            "step": 0.01,
            "tooltip": "Retained prompts must keep this share of their rate on the base model.",
        },
    ),
    "max_strength": (
        "FLOAT",
        {
            "default": 3.0,
            "min": 0.1,
            "max": 100.0,
            "step": 0.1,
            "tooltip": "Stronger is not tried.",
        },
    ),
    "seed": seed_widget("Same seed, same answer. All drawing seeds follow from it."),
    "when_infeasible": (
        list(INFEASIBLE),
        {
            "default": "stop",
            "tooltip": "No strength meets target and budget: stop with an error that shows the "
            "trade-off, or go on with the strongest within the budget.",
        },
    ),
    "step": (
        "FLOAT",
        {
            "default": 0.05,
            "min": 0.001,
            "max": 10.0,
            "step": 0.01,
            "tooltip": "Strengths differ by this much.",
            "advanced": True,
        },
    ),
    "pictures_per_trigger": (
        "INT",
        {
            "default": 24,
            "min": 1,
            "max": 1000,
            "tooltip": "Seeds of each trigger. The lower the target, the more are needed.",
            "advanced": True,
        },
    ),
    "pictures_per_retained": (
        "INT",
        {
            "default": 12,
            "min": 1,
            "max": 1000,
            "tooltip": "Seeds of each retained prompt.",
            "advanced": True,
        },
    ),
    "tuning_share": (
        "FLOAT",
        {
            "default": 0.5,
            "min": 0.05,
            "max": 0.95,
            "step": 0.05,
            "tooltip": "Share of the inversion set that chooses the strength; the rest verifies.",
            "advanced": True,
        },
    ),
    "verify": (
        "BOOLEAN",
        {
            "default": True,
            "tooltip": "Check the strength on held-out triggers and seeds.",
            "advanced": True,
        },
    ),
    "other_weights": (
        ["refuse", "allow"],
        {
            "default": "refuse",
            "tooltip": "What to do when the model has other weights than the vector was made from.",
            "advanced": True,
        },
    ),
}


def search_config(widgets: Mapping[str, Any]) -> SearchConfig:
    """The widgets as settings of the search. Raises ConfigError, StrengthError."""
    return SearchConfig(
        seeds=_seeds(widgets, 0, "pictures_per_trigger"),
        retained_seeds=_seeds(widgets, 1, "pictures_per_retained"),
        grid=StrengthGrid.even(widgets["step"], widgets["max_strength"]),
        rule=StrengthRule(target=widgets["target"], budget=widgets["budget"]),
        at_once=widgets["pictures_at_once"],
        guess=min(1.0, widgets["max_strength"]),
    )


def held_out_seeds(widgets: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Seeds for triggers and for retained prompts that the search does not use."""
    return (
        _seeds(widgets, 2, "pictures_per_trigger"),
        _seeds(widgets, 3, "pictures_per_retained"),
    )


def _seeds(widgets: Mapping[str, Any], purpose: int, count: str) -> tuple[int, ...]:
    start = (widgets["seed"] % SPAN) * 4 * SPAN + purpose * SPAN + 1000
    return tuple(range(start, start + widgets[count]))
