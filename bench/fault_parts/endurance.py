"""The same work again and again in one process: what of the memory does not come back."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from .injections import moments_of, stopped_at
from .traces import live_bytes
from .world import World

SETTLED = 5  # rounds until every cache is full
CANCELLED = ("concept set", "apply, patches, draw", "apply, runtime exact, draw", "ConceptPrune")
ERASURE = ("fine-tune", "extract", "apply, patches, draw", "apply, runtime exact, draw", "save")


@dataclass
class Endured:
    """held: bytes of all tensors after each round, erasures first, then cancelled ones."""

    held: list[int] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """The most that was held after the fifth round, over what was held then."""
        return max(self.held[SETTLED:]) / self.held[SETTLED - 1] - 1


def endure(world: World, erasures: int, cancels: int, seed: int) -> Endured:
    """Whole erasures, then stages that are cancelled at a random moment."""
    stages, endured = world.stages(), Endured()
    for _ in range(erasures):
        for name in ERASURE:
            stages[name]()
        endured.held.append(live_bytes())
    source = random.Random(seed)
    for number in range(cancels):
        stage = stages[source.choice(CANCELLED)]
        (point,) = moments_of(stage, "cancel", 1, f"{seed} {number}")
        stopped_at(stage, "cancel", point)
        endured.held.append(live_bytes())
    return endured
