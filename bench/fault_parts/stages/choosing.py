"""What is measured and chosen: strength, mask, interference."""

from __future__ import annotations

from ..world import DRAWING, Stages, World

SLOW = {"strength", "mask", "damage"}


def stages(world: World) -> Stages:
    """By name."""
    two = {"first": world.vector, "second": world.vector}
    return {
        "strength": lambda: world.node(
            "AutoStrength",
            **world.judged(),
            task_vector=world.vector,
            inversion_set=world.triggers,
            **{"retained": "a dog | dog", "target": 0.5, "max_strength": 2.0},
            finished_work=world.reuse,
            **{"step": 0.5, "pictures_per_trigger": 4, "pictures_per_retained": 2},
        ),
        "mask": lambda: world.node(
            "AutoBlockMask",
            model=world.model,
            clip=world.clip,
            task_vector=world.vector,
            concept_set=world.pictures,
            inversion_set=world.triggers,
            **{**DRAWING, "retained": "a dog | dog", "probes": 2, "most_triggers": 1},
        )[1],
        "compare": lambda: world.node("CompareTaskVectors", **two),
        "combine": lambda: world.node("CombineTaskVectors", **two, second_factor=0.5)[0],
        "damage": lambda: world.node("MeasureInterference", **world.judged(), **two, pictures=2),
    }
