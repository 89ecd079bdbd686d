"""Every stage of an erasure, small enough to run hundreds of times."""

from __future__ import annotations

from ..world import DemoWorld, Stages, World
from . import applying, choosing, demo, learning, neighbours

SLOW = {*learning.SLOW, *choosing.SLOW, *neighbours.SLOW, *demo.SLOW}


def of_world(world: World) -> Stages:
    """Those of the tiny model."""
    return {
        **learning.stages(world),
        **choosing.stages(world),
        **applying.stages(world),
        **neighbours.stages(world),
    }


def of_demo(world: DemoWorld) -> Stages:
    """Those of a demo model, under its name."""
    return {f"{world.kind} demo: {name}": stage for name, stage in demo.stages(world).items()}
