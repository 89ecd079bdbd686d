"""What is learned: pictures, fine-tunes, inversions, attacks."""

from __future__ import annotations

import torch

from host_support import attack_steps, host_steps
from tverase_core.vector.task_vector import TaskVector

from ..world import Stages, World

SLOW = {
    *("fine-tune", "fine-tune, low rank, recomputed, retained", "fine-tune with checkpoints"),
    *("invert", "attack an erased model", "concept inversion attack"),
}
_INVERTING = {"steps": 2, "batch": 1, "checks": 2, "restarts": 0}
_ATTACK = {"attacks": 1, "steps": 2, "pictures_per_step": 1, "checks": 2, "start": "cat"}


def stages(world: World) -> Stages:
    """By name."""
    base = {"model": world.model}
    tuning = {**base, "concept_set": world.pictures, **host_steps.TUNING}
    inverting = {**world.judged(), "concept_set": world.pictures, **_INVERTING}
    attack = {**world.judged(), "base": world.model, "concept_set": world.pictures, **_ATTACK}
    return {
        "concept set": lambda: world.node(
            "ConceptSetFromPrompt",
            **base,
            clip=world.clip,
            **dict(prompt="a cat", concept="cat", count=2, width=32, height=32, seed=1),
            **dict(steps=2, cfg=2.0, sampler_name="euler", scheduler="normal", batch_size=2),
            caption="",
        ),
        "fine-tune": lambda: world.node("ConceptFinetune", **tuning, finished_work=world.reuse)[2],
        "fine-tune, low rank, recomputed, retained": lambda: world.node(
            "ConceptFinetune",
            **{**tuning, "rank": 2},
            retained_set=world.pictures,
            gradient_checkpointing="always",
        )[2],
        "fine-tune with checkpoints": lambda: world.node(
            "ConceptFinetune", **tuning, checkpoint_every=1
        )[2],
        "extract": lambda: _extracted(world),
        "invert": lambda: world.node(
            "DiverseInversion", **inverting, count=2, finished_work=world.reuse
        )[0],
        "attack an erased model": lambda: world.node(
            "DiverseInversion", **{**inverting, "model": world.applied("patch")}, count=1
        )[0],
        "concept inversion attack": lambda: world.node(
            "ConceptInversionAttack", **{**attack, "model": world.applied("patch")}
        ),
    }


def _extracted(world: World) -> TaskVector:
    tuned = world.model.clone()
    tuned.add_patches({attack_steps.BIAS: ("diff", (torch.full((4,), 0.5),))})
    found: TaskVector = world.node("ExtractTaskVector", base=world.model, tuned=tuned)[0]
    return found
