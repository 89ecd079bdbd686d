"""Every number of the evidence. A stored result counts only with the numbers it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.erasure.recipe import recipe

GRAPH = "erase_concept_flow_auto"
FINETUNE, INVERSION = "TVEraseConceptFinetune", "TVEraseDiverseInversion"


@dataclass(frozen=True, slots=True)
class Settings:
    """attack_steps, attack_pictures: steps of an attack and pictures a step; the defaults are the
    standard budget of Concept Inversion Attack, 24,000 views. checks: pictures that an attack is
    judged on. most: the largest strength that is tried. esd_rates: the one is kept whose edit
    erases nearest to strength 1, ESD's own. rank_rate: learning rate at rank 16. draws: pictures of
    each tuning trigger, held-out trigger and retained prompt. widgets: inputs of the graph's nodes
    that are changed, by node type.
    """

    attack_steps: int = 3000
    attack_pictures: int = 8
    checks: int = 32
    most: float = 8.0
    esd_steps: int = 200
    esd_batch: int = 4
    esd_rates: tuple[float, ...] = (1e-4, 4e-4)
    rank_rate: float = 2e-3
    draws: tuple[int, int, int] = (8, 16, 24)
    widgets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def digest(self, concept: str) -> str:
        """Names these numbers, the graph's, the concept and the demo model."""
        told = f"{recipe(concept, GRAPH)} {self!r}"
        return hashlib.sha256(told.encode()).hexdigest()[:16]


FULL = Settings()
# To see that every task runs: its figures mean nothing.
SMOKE = Settings(
    attack_steps=2,
    attack_pictures=2,
    checks=2,
    most=0.2,
    esd_steps=2,
    esd_batch=1,
    esd_rates=(1e-4,),
    draws=(1, 1, 1),
    widgets={
        "TVEraseConceptSetFromPrompt": {"count": 16, "steps": 4},
        FINETUNE: {"steps": 2, "batch_size": 2},
        # from the word itself, so that the embeddings draw the concept without learning
        INVERSION: {"count": 4, "steps": 2, "learning_rate": 1e-5, "start": "{concept}"},
        "TVEraseAutoStrength": {"sampling_steps": 4},
    },
)
