"""The strengths that Auto-Strength chooses, for several sets of triggers at the price of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .automatic import Job
from .shared import SharedMeasurement

SWEEP = (1.0, 3.0, 7.5)  # CFG besides the workflow's own


class Tuner:
    """Auto-Strength's own search on a studio that is open already."""

    def __init__(self, job: Job, studio: Any):
        from tverase_pack.nodes.strength.strength_settings import search_config

        self.job, self.studio = job, studio
        self.config = search_config(job.settings("TVEraseAutoStrength"))
        prompts, self.names = zip(*job.concept.tuning, strict=True)
        self.kept = studio.encoder.encode(prompts)

    def choices(
        self, deltas: Any, triggers: Any, searches: dict[str, Sequence[int]]
    ) -> dict[str, Any]:
        """One search a name, each with its rows of `triggers`; pictures are drawn once for all."""
        from tverase_pack.tverase_core.strength.measurement import ModelMeasurement
        from tverase_pack.tverase_core.strength.search import find_strength

        with self.studio.denoiser.attached(deltas) as attachment:
            measure = ModelMeasurement(
                attachment,
                self.studio.sampler,
                self.job.judge,
                self.job.concept.name,
                triggers,
                self.kept,
                self.names,
            )
            return {
                name: self.job.timed(
                    f"strength {name}",
                    lambda r=rows: find_strength(SharedMeasurement(measure, r), self.config),
                )
                for name, rows in searches.items()
            }


def choice_facts(choice: Any) -> dict[str, Any]:
    """What the table needs of a choice; the nearest strength where none is feasible."""
    return {
        "strength": choice.strength if choice.feasible else choice.tradeoffs[0].strength,
        "feasible": choice.feasible,
        "reason": choice.reason,
        "images": choice.images_drawn,
        "grid_images": choice.full_grid_images,
    }


def tuning_triggers(
    job: Job, studio: Any, sets: dict[str, tuple[Any, Any]]
) -> tuple[Any, dict[str, list[int]]]:
    """(context with every trigger that any search tunes on, its rows by search)."""
    from tverase_pack.tverase_core.ports import joined

    plain = studio.encoder.encode([job.concept.plain])
    diverse, alike = (sets[name][0].contexts(studio.encoder) for name in ("diverse", "alike"))
    first, second = len(diverse.tokens), len(alike.tokens)
    every = joined(plain, diverse, alike)
    rows = {
        "tv": [0, *range(1, 1 + first)],
        "plain_alpha": [0],
        "alike_alpha": [0, *range(1 + first, 1 + first + second)],
    }
    return every, rows


def swept(job: Job, drawing: Any, deltas: Any, tuning: Any) -> dict[str, Any]:
    """The strength that the same vector needs at other CFG values."""
    from tverase_pack.nodes.host.drawing.studio import open_studio
    from tverase_pack.tverase_core.ports import joined

    found = {}
    for cfg in SWEEP:
        with open_studio(
            job.model, job.clip, job.vae, replace(drawing, cfg=cfg), purpose="bench claims"
        ) as studio:
            triggers = joined(
                studio.encoder.encode([job.concept.plain]), tuning.contexts(studio.encoder)
            )
            name = f"at CFG {cfg:g}"
            searches = {name: range(len(triggers.tokens))}
            choice = Tuner(job, studio).choices(deltas, triggers, searches)[name]
            found[str(cfg)] = choice_facts(choice)
    return found
