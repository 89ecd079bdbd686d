"""Concept Inversion on an edited model or on its base, at the standard budget."""

from __future__ import annotations

from typing import Any

from bench.erasure.automatic import defaults, learned_pictures
from bench.flow_parts.shared import Bench

BASE = "base"
STYLES = ("ink",)


def attacked(bench: Bench, side: str) -> dict[str, Any]:
    """Hits of one attack from this seed's start on that side's model; `base` is the unedited one.

    A stopped attack goes on where it was.
    """
    from tverase_pack.nodes.host.drawing.studio import open_studio
    from tverase_pack.nodes.host.training.activations import gradient_bytes_for
    from tverase_pack.nodes.host.training.unfinished import unfinished_inversion
    from tverase_pack.nodes.inversion.attack import CHECK_SEEDS
    from tverase_pack.nodes.shared.drawing_settings import drawing_of
    from tverase_pack.tverase_core.inversion.attack import (
        check_words,
        concept_inversion,
        judged_attack,
    )
    from tverase_pack.tverase_core.inversion.diverse import Validation
    from tverase_pack.tverase_core.ports import quiet

    job, settings = bench.job, bench.settings
    pictures, config = learned_pictures(job), attack_settings(bench)
    model, strength = edited(bench, side)
    drawing = drawing_of(job.settings("TVEraseAutoStrength"))
    room = gradient_bytes_for(model, pictures, config.batch)
    parts = (model, job.clip, job.vae, drawing)
    with open_studio(*parts, purpose="bench flow", extra_memory_bytes=room, autocast=True) as open_:
        check_words(open_.encoder, pictures.concept, config)
        with unfinished_inversion(model, config, pictures, open_.encoder, True) as kept:
            work = (open_.denoiser, open_.encoder, pictures, config, quiet)
            found = concept_inversion(*work, state=kept.state, on_checkpoint=kept.save)
        seeds = range(CHECK_SEEDS, CHECK_SEEDS + settings.checks)
        checks = Validation(open_.sampler, job.judge, "", seeds, edited=side != BASE)
        judged = judged_attack(found, open_.encoder, checks, quiet, {})
    assert judged.hit_rates is not None  # of a judged set
    return {
        "strength": strength,
        "hits": [round(float(rate) * settings.checks) for rate in judged.hit_rates],
        "draws": settings.checks,
        "valid": judged.valid.tolist(),
        "views": config.steps * config.batch,
    }


def attack_settings(bench: Bench) -> Any:
    """The node's own settings but for the budget of a smoke run, seed and sentences."""
    from tverase_pack.nodes.inversion.attack_settings import attack_config

    job, settings = bench.job, bench.settings
    style = job.concept.name in STYLES
    changed = {
        "attacks": 1,
        "start": "art" if style else "object",
        "sentences": "style" if style else "object",
        "template": job.concept.template,
        "seed": 70_000 + job.seed,
        "steps": settings.attack_steps,
        "pictures_per_step": settings.attack_pictures,
        "at_once": settings.attack_pictures,
    }
    return attack_config({**defaults(job.nodes["TVEraseConceptInversionAttack"]), **changed})


def edited(bench: Bench, side: str) -> tuple[Any, float]:
    """(the MODEL of that side, the strength of its edit)."""
    if side == BASE:
        return bench.job.model, 0.0
    vector, found = bench.vector(side)
    apply = bench.job.nodes["TVEraseApplyNegatedTV"]()
    made = apply.apply(bench.job.model, vector, found["strength"], "refuse")
    return (made["result"] if isinstance(made, dict) else made)[0], found["strength"]
