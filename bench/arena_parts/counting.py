"""What is counted on an edited model: prompts, held-out inversions, what must stay, attacks."""

from __future__ import annotations

from typing import Any

from bench.erasure.battery import Battery
from tverase_core.errors import NonFiniteError
from tverase_core.inversion.attack import concept_inversion
from tverase_core.ports import quiet

from .edited import Edited, edited
from .plan import AGAIN, ATTACK
from .settings import NEAR
from .world import World, defaults

COUNT_SEED, ATTACK_SEED = 5_000_000, 6_000_000  # of drawing; a seed's own lie 100,000 apart
SEARCH_SEEDS = {ATTACK: 70_000, AGAIN: 80_000}  # of the attacks themselves


def counted(world: World, at: Edited) -> dict[str, Any]:
    """[hits, pictures] of every trigger and prompt, by group."""
    battery = Battery(at, world.judge, groups_of(world, at), COUNT_SEED + 100_000 * world.seed)
    return {"groups": battery.count()}


def groups_of(world: World, at: Edited) -> dict[str, Any]:
    """Triggers of the concept, and what must stay: named in tuning, never named, near."""
    concept, budget = world.concept, world.budget
    _, held_out = world.triggers()

    def erased(lines: list[str], draws: int) -> tuple[Any, list[str], int]:
        return at.texts(lines), [concept.name] * len(lines), draws

    def kept(asked: tuple[tuple[str, str], ...]) -> tuple[Any, list[str], int]:
        return at.texts([p for p, _ in asked]), [n for _, n in asked], budget.retained_draws

    return {
        "plain": erased([concept.plain], budget.plain_draws),
        "paraphrases": erased(list(concept.paraphrases), budget.paraphrase_draws),
        "held_out": (
            at.rows(lambda: held_out.contexts(at.encoder)),
            [concept.name] * len(held_out),
            budget.held_out_draws,
        ),
        "named": kept(concept.tuning),
        "never_named": kept(concept.reported),
        "near": kept(NEAR[concept.name]),
    }


def attack_config(world: World, part: str) -> Any:
    """Of Concept Inversion, as the node has it, at the arena's budget."""
    from tverase_pack.nodes.inversion.attack_settings import attack_config as of_widgets

    budget = world.budget
    widgets = {
        **defaults(world.nodes["TVEraseConceptInversionAttack"]),
        "attacks": 1,
        "start": "",
        "sentences": world.kind,
        "template": world.concept.template,
        "seed": SEARCH_SEEDS[part] + world.seed,
        "steps": budget.attack_steps,
        "pictures_per_step": budget.attack_batch,
        "at_once": budget.attack_batch,
    }
    return of_widgets(widgets)


def attacked(world: World, at: Edited, part: str) -> dict[str, Any]:
    """One adaptive Concept Inversion on the model as it is: how often it brings the concept back.

    An attack that diverges is told as failed; on the base that makes it invalid.
    """
    config, budget = attack_config(world, part), world.budget
    told = {"views": config.steps * config.batch, "draws": budget.attack_draws}
    try:
        found = concept_inversion(at.denoiser, at.encoder, world.pictures(), config, quiet)
    except NonFiniteError as error:
        return {**told, "hits": 0, "failed": str(error)}
    row = at.rows(lambda: found.contexts(at.encoder))
    group = {"attack": (row, [world.concept.name], budget.attack_draws)}
    first_seed = ATTACK_SEED + 100_000 * world.seed
    ((hits, _),) = Battery(at, world.judge, group, first_seed).count()["attack"]
    return {**told, "hits": hits, "loss": round(float(found.losses), 5)}


def measured(world: World, part: str, vector: Any, strength: float) -> dict[str, Any]:
    """One part of a method at its strength; without a vector of the base."""
    with edited(world, vector, strength) as at:
        return attacked(world, at, part) if part in SEARCH_SEEDS else counted(world, at)
