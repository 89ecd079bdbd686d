"""An erasure of a demo model, of either kind."""

from __future__ import annotations

from host_support import host_steps

from ..world import DemoWorld, Stages

NAMES = ("concept set", "fine-tune", "apply, patches, draw", "apply, runtime exact, draw")
SLOW = {f"{kind} demo: {name}" for kind in ("UNet", "flow") for name in NAMES}


def stages(world: DemoWorld) -> Stages:
    """By name."""
    tuning = {"model": world.model, "concept_set": world.pictures, **host_steps.TUNING}
    made = (
        world.concept_set,
        lambda: world.node("ConceptFinetune", **{**tuning, "steps": 1})[2],
        lambda: world.predicted(world.applied("patch")),
        lambda: world.predicted(world.applied("runtime_exact")),
    )
    return dict(zip(NAMES, made, strict=True))
