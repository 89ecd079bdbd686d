"""Edits on quantised models with this device's own kernels."""

from __future__ import annotations

from typing import Any

from bench.quantised import plain_model, tried
from host_support import quantised as made

from .place import Place

KEPT = ("at_use_cosine", "at_use_norm_ratio", "patch_cosine", "time_full", "time_low_rank")


def quantised(place: Place) -> dict[str, Any]:
    """Each format: the edit at use beside what it should be, patches, and a step's cost."""
    width = {"width": 32, "context": 64} if place.tiny else {}
    effort = {"rounds": 1, "side": 8} if place.tiny else {}
    plain = plain_model(**width)
    weights = made.plain_weights(plain)
    figures: dict[str, Any] = {}
    for name in made.known_formats():
        model = made.quantised_model(name, weights)
        found = tried(plain, model, place.work, **effort)
        for key in KEPT:
            goal = {"target": ">= 0.999"} if key == "at_use_cosine" else {}
            figures[f"{name}_{key}"] = {"value": found[key], **goal}
    return {**figures, "formats": {"value": len(made.known_formats())}}
