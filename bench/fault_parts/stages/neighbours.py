"""The neighbours of task vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from ..world import DRAWING, Stages, World

SLOW = {"UCE debiasing", "ESD", "STEREO", "Few-shot"}


class _MostlyCats:
    """Sees a cat in three quarters of what it is shown, a dog in the rest."""

    def concepts(self) -> tuple[str, ...]:
        return ("cat", "dog")

    def score(self, images: Tensor, concept: str) -> Tensor:
        cats = torch.arange(len(images)) < 0.75 * len(images)
        return torch.where(cats == (concept == "cat"), 0.9, 0.1)


def stages(world: World) -> Stages:
    """By name."""
    base = {"model": world.model, "clip": world.clip}
    shown = {**base, "concept_set": world.pictures}
    return {
        "ESD": lambda: world.node("ESD", **shown, **{"steps": 2, "batch_size": 1})[0],
        "UCE": lambda: world.node(
            "UCE",
            **base,
            **dict(concepts="cat", guide="", preserve="a dog", keep=0.5, preserve_weight=1.0),
        )[0],
        "UCE debiasing": lambda: world.node(
            "UCEDebias",
            **{**world.judged(), "judge": _MostlyCats()},
            **{"rounds": 2, "pictures_per_prompt": 4},
        ),
        "STEREO": lambda: world.node(
            "STEREO",
            **shown,
            **dict(rounds=1, erase_steps=1, attack_steps=1, final_steps=1, batch_size=1),
        )[0],
        "ConceptPrune": lambda: world.node(
            "ConceptPrune",
            **base,
            **dict(concept="cat", prompts="a cat", contrast="a dog", ratio=0.05, seed=3),
            **dict(steps_used=1, pictures_per_prompt=1),
            **DRAWING,
        )[0],
        "Few-shot": lambda: world.node("FewShot", **world.few_shot())[0],
    }
