"""The widgets of Auto-Strength, in their frozen order, and the search they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...tverase_core.strength.choice import SearchConfig
from ...tverase_core.strength.curve import StrengthGrid, StrengthRule
from ..shared.retained_prompts import RETAINED
from ..shared.widgets import Widgets, choice, number, seed, switch, text, whole

INFEASIBLE = ("stop", "nearest")
SPAN = 100_000  # seeds of each purpose start this far apart, so that none is used twice

SETTINGS: Widgets = {
    "prompt": text(
        "",
        "Plain prompt of the concept; it counts as a trigger too. Empty: the "
        "inversion set's template with the concept's name.",
    ),
    "retained": RETAINED,
    "target": number(
        0.15,
        (0.01, 0.99, 0.01),
        "The concept may still be seen in this share of pictures at most, for "
        "every trigger, with 95 % confidence.",
    ),
    "budget": number(
        0.9,
        (0.0, 1.0, 0.01),
        "Retained prompts must keep this share of their rate on the base model.",
    ),
    "max_strength": number(3.0, (0.1, 100.0, 0.1), "Stronger is not tried."),
    "seed": seed("Same seed, same answer. All drawing seeds follow from it."),
    "when_infeasible": choice(
        list(INFEASIBLE),
        "No strength meets target and budget: stop with an error that shows the "
        "trade-off, or go on with the strongest within the budget.",
        default="stop",
    ),
    "step": number(0.05, (0.001, 10.0, 0.01), "Strengths differ by this much.", advanced=True),
    "pictures_per_trigger": whole(
        24,
        (1, 1000),
        "Seeds of each trigger. The lower the target, the more are needed.",
        advanced=True,
    ),
    "pictures_per_retained": whole(12, (1, 1000), "Seeds of each retained prompt.", advanced=True),
    "tuning_share": number(
        0.5,
        (0.05, 0.95, 0.05),
        "Share of the inversion set that chooses the strength; the rest verifies.",
        advanced=True,
    ),
    "verify": switch(True, "Check the strength on held-out triggers and seeds.", advanced=True),
    "other_weights": choice(
        ["refuse", "allow"],
        "What to do when the model has other weights than the vector was made from.",
        default="refuse",
        advanced=True,
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
