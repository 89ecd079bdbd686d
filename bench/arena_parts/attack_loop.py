"""The candidate `tv_loop`: what brings the concept back is learned too, and subtracted.

A round attacks the present edit at its tuned strength, from random words and with seeds of its own,
and fine-tunes anew with a share of the pictures shown under what all attacks so far have found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tverase_core.concept_set import ConceptSet, Guide, concept_set
from tverase_core.inversion.attack import concept_inversion
from tverase_core.inversion.config import InversionConfig
from tverase_core.ports import Context, joined, quiet
from tverase_core.sentences import SENTENCES

from .edited import edited
from .methods import first_guided, guided
from .settings import INVERTED
from .tuning import found_strength
from .world import World

SHARE = 4  # every fourth picture is shown under a found embedding
LOOP_SEED = 90_000


def looped(world: World, setting: Mapping[str, Any]) -> Any:
    """The vector after `rounds` rounds."""
    own = {name: value for name, value in setting.items() if name != "rounds"}
    tuning, _ = world.triggers()
    vector, found = first_guided(world), list[Any]()
    for number in range(setting["rounds"]):
        strength = found_strength(world, vector, [tuning, *found])["strength"]
        found.append(attacks(world, vector, strength, number))
        vector = guided(world, own, under_attack(world, found))
    return vector


def attacks(world: World, vector: Any, strength: float, number: int) -> Any:
    """What attacks of this round find on the edit."""
    budget = world.budget
    config = InversionConfig(
        count=budget.loop_attacks,
        steps=budget.loop_steps,
        learning_rate=INVERTED["learning_rate"],
        batch=4,
        seed=LOOP_SEED + 100 * number + world.seed,
        diversity=0.0,
        template=world.concept.template,
        sentences=SENTENCES[world.kind],
    )
    with edited(world, vector, strength) as at:
        return concept_inversion(at.denoiser, at.encoder, world.pictures(), config, quiet)


def under_attack(world: World, found: Sequence[Any]) -> ConceptSet:
    """The guided pictures, every `SHARE`-th shown under a found embedding and guided by it."""
    pictures = world.guided_pictures()
    assert pictures.guide is not None
    with edited(world) as at:
        triggers = joined(*(inversions.contexts(at.encoder) for inversions in found))
    return with_triggers(pictures, triggers)


def with_triggers(pictures: ConceptSet, triggers: Context) -> ConceptSet:
    """The set with a trigger in place of every `SHARE`-th picture's text, by turns; guidance then
    pulls towards the trigger and away from the empty text."""
    guide, count = pictures.guide, len(pictures)
    assert guide is not None
    numbers = torch.arange(count)
    hers = numbers % SHARE == 0
    turn = (numbers // SHARE) % len(triggers.tokens)

    def put(old: Context, row: torch.Tensor, new: Context, other: torch.Tensor) -> Context:
        """Row i of `old`, or where a trigger is shown of `new`."""
        return joined(old, new).pick(torch.where(hers, len(old.tokens) + other, row))

    shown = torch.zeros_like(numbers) if len(pictures.contexts.tokens) == 1 else numbers
    return concept_set(
        pictures.concept,
        pictures.latents,
        put(pictures.contexts, shown, triggers, turn),
        pictures.empty,
        Guide(
            put(guide.prompts, numbers % len(guide.prompts.tokens), triggers, turn),
            put(
                guide.contrasts,
                numbers % len(guide.contrasts.tokens),
                pictures.empty,
                torch.zeros_like(turn),
            ),
        ),
    )
