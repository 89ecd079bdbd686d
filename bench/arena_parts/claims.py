"""Claims 2 to 4 of the paper, each with the paper's own vector at the strengths that it needs.

Here a strength is the least that silences its triggers, whatever is lost: the claims are about
what triggers ask for, and about what is kept at equal erasure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.erasure.battery import Battery
from tverase_core.model.block_mask import BlockMask
from tverase_core.ports import joined
from tverase_core.strength.choice import SearchConfig

from .edited import edited
from .settings import APART, BLOCKS
from .tuning import found_strength, search_config
from .world import World

CLAIM_SEED = 7_000_000  # of drawing; a seed's own lie 100,000 apart
Choice = Mapping[str, Any]


def erasing(world: World) -> SearchConfig:
    """The arena's search without its budget of what must stay."""
    config = search_config(world)
    return replace(config, rule=replace(config.rule, budget=0.0))


def counted_at(
    world: World, vector: Any, strength: float, held_out: Sequence[Any], mask: Any = None
) -> dict[str, Any]:
    """Hits of held-out inversions and of reported prompts that must stay."""
    concept, budget = world.concept, world.budget
    with edited(world, vector, strength, mask) as at:
        rows = at.rows(lambda: joined(*(found.contexts(at.encoder) for found in held_out)))
        names = [concept.name] * sum(map(len, held_out))
        prompts = [prompt for prompt, _ in concept.reported]
        kept = at.texts(prompts), [name for _, name in concept.reported], budget.retained_draws
        groups = {"held_out": (rows, names, budget.held_out_draws), "kept": kept}
        return Battery(at, world.judge, groups, CLAIM_SEED + 100_000 * world.seed).count()


def compared(
    world: World, vector: Any, sets: Mapping[str, Sequence[Any]], held_out: Sequence[Any]
) -> dict[str, Any]:
    """By name: the strength that these triggers ask for, and what it leaves of the held-out."""
    made = {}
    for name, inversions in sets.items():
        choice = found_strength(world, vector, inversions, erasing(world))
        made[name] = {**choice, **counted_at(world, vector, choice["strength"], held_out)}
    return made


def strength(world: World, vector: Any, _: Choice) -> dict[str, Any]:
    """Claim 2: the plain prompt alone against the plain prompt and an inversion set."""
    tuning, held_out = world.triggers()
    return compared(world, vector, {"plain": [], "inversions": [tuning]}, [held_out])


def diversity(world: World, vector: Any, _: Choice) -> dict[str, Any]:
    """Claim 3: inversions that are just found against those held in intervals: of the cosine to
    the concept's word, and of the cosines among them."""
    alike = world.triggers("alike", diversity=0.0)
    apart = world.triggers("apart", **APART)
    default = world.triggers()
    sets = {"alike": [alike[0]], "diverse": [apart[0]]}
    found = compared(world, vector, sets, [alike[1], apart[1], default[1]])
    return {**found, "triggers": {"alike": len(alike[0]), "diverse": len(apart[0])}}


def mask(world: World, vector: Any, _: Choice) -> dict[str, Any]:
    """Claim 4: the whole vector against parts of it, each at the least strength that erases."""
    tuning, held_out = world.triggers()
    made = {}
    for name, blocks in {"whole": (), **BLOCKS}.items():
        part = BlockMask.only(blocks=blocks) if blocks else None
        choice = found_strength(world, vector, [tuning], erasing(world), part)
        counts = counted_at(world, vector, choice["strength"], [held_out], part)
        made[name] = {**choice, **counts, "blocks": list(blocks)}
    return made


CLAIM_PARTS: Mapping[str, Callable[[World, Any, Choice], dict[str, Any]]] = {
    "strength": strength,
    "diversity": diversity,
    "mask": mask,
}
