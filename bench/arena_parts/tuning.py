"""Every method is tuned alike: its settings, each at the strength that Auto-Strength finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tverase_core.ports import joined
from tverase_core.strength.choice import SearchConfig, StrengthChoice
from tverase_core.strength.curve import StrengthGrid, StrengthRule
from tverase_core.strength.measurement import ModelMeasurement
from tverase_core.strength.search import find_strength

from .edited import edited
from .settings import AT_ONCE
from .world import World

TRIGGER_SEED, KEPT_SEED = 3_000_000, 3_500_000  # of drawing; a seed's own lie 10,000 apart


def search_config(world: World) -> SearchConfig:
    """The same budget for every method and setting."""
    budget = world.budget

    def seeds(first: int, count: int) -> tuple[int, ...]:
        start = first + 10_000 * world.seed
        return tuple(range(start, start + count))

    return SearchConfig(
        seeds=seeds(TRIGGER_SEED, budget.trigger_draws),
        retained_seeds=seeds(KEPT_SEED, budget.tuning_draws),
        grid=StrengthGrid.even(budget.strength_step, budget.most_strength),
        rule=StrengthRule(target=budget.target, budget=budget.budget),
        at_once=AT_ONCE,
    )


def found_strength(
    world: World,
    vector: Any,
    inversions: Sequence[Any],
    config: SearchConfig | None = None,
    mask: Any = None,
) -> dict[str, Any]:
    """Facts of the search with the plain prompt and these inversion sets; none: the plain alone."""
    concept = world.concept
    prompts, names = zip(*concept.tuning, strict=True)
    with edited(world, vector, mask=mask) as at:
        plain = [concept.plain]
        triggers = at.rows(
            lambda: joined(at.encoder.encode(plain), *(s.contexts(at.encoder) for s in inversions))
        )
        measure = ModelMeasurement(
            *(at.attachment, at.sampler, world.judge, concept.name),
            *(triggers, at.texts(prompts), names),
        )
        return facts(find_strength(measure, config or search_config(world)))


def facts(choice: StrengthChoice) -> dict[str, Any]:
    """What a table needs; where no strength is feasible, of the strongest within the budget."""
    if choice.strength is None:
        nearest = choice.tradeoffs[0]
        strength, worst, kept = nearest.strength, nearest.worst_rate, nearest.retained_ratio
    else:
        row = choice.curve.strengths.index(choice.strength)
        rows = [r.rate for r in choice.tuning]
        strength, worst, kept = choice.strength, max(rows), choice.curve.retained_ratio(row)
    return {
        "strength": strength,
        "feasible": choice.feasible,
        "worst": worst,
        "kept": kept,
        "reason": choice.reason,
        "pictures": choice.images_drawn,
        "grid_pictures": choice.full_grid_images,
    }


def best(tried: Sequence[Mapping[str, Any]]) -> int:
    """The number of the setting to take: of those with a feasible strength the one that keeps
    most, else the one whose worst trigger is seen least; the first of equals."""

    def rank(number: int) -> tuple[bool, float, int]:
        found = tried[number]
        good = found["kept"] if found["feasible"] else -found["worst"]
        return found["feasible"], good, -number

    return max(range(len(tried)), key=rank)
