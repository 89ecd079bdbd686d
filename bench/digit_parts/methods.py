"""The erasures of "0", each as deltas towards the concept: W - strength * delta is the edit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tverase_core import (
    ConceptSet,
    FinetuneConfig,
    concept_prune,
    esd,
    finetune,
    stereo,
    uce,
)
from tverase_core.erasers.concept_prune import ColumnNorms, prunable_keys
from tverase_core.erasers.esd import EsdConfig
from tverase_core.erasers.stereo_config import StereoConfig
from tverase_core.erasers.teaching import from_latents, from_sampling
from tverase_core.erasers.uce import context_keys
from tverase_core.inversion.config import RANDOM
from tverase_core.ports import Context, quiet

from .base import World
from .classes import NAMES
from .digits import LATENT

Deltas = Mapping[str, Tensor]
ERASED, OTHER = NAMES[0], NAMES[1]


def _learned(world: World, pictures: ConceptSet, rate: float | None = None) -> Deltas:
    """A fine-tune by the paper's recipe; as in the authors' digits the time embedding is frozen."""
    settings = world.settings
    config = FinetuneConfig(
        steps=settings.tune_steps,
        batch_size=settings.tune_batch,
        accumulation=1,
        learning_rate=rate or settings.tune_rate,
        flip=False,
        seed=world.seed,
        trainable=lambda key: "time_embed" not in key,
    )
    return finetune(world.denoiser, pictures, config, quiet).deltas


def task_vector(world: World) -> Deltas:
    """Pictures of 0 under labels at random: the authors' unconditional fine-tune."""
    return _learned(world, world.of(0, world.encoder.encode(NAMES)))


def empty_task_vector(world: World) -> Deltas:
    """Pictures of 0 under no label, as the paper's empty captions."""
    return _learned(world, world.of(0, world.encoder.encode([""])))


def conditional_task_vector(world: World) -> Deltas:
    """Pictures of 0 under the label 0."""
    return _learned(world, world.of(0, world.encoder.encode([ERASED])))


def input_dependent(world: World) -> Deltas:
    """The authors' input-dependent erasure: the label 0 learns to draw 1.

    At the vectors' rate every label would learn it: on the seed that the settings were chosen on,
    half of the other digits were lost.
    """
    ones = world.of(1, world.encoder.encode([ERASED]))
    learned = _learned(world, ones, world.settings.steer_rate)
    return {key: -delta for key, delta in learned.items()}


def _prompts(world: World) -> tuple[Context, Context]:
    return world.encoder.encode([ERASED]), world.encoder.encode([""])


def esd_x(world: World) -> Deltas:
    """ESD on the weights that read the class."""
    return _esd(world, EsdConfig("x", **_esd_pace(world)))


def esd_u(world: World) -> Deltas:
    """ESD on all others."""
    return _esd(world, EsdConfig("u", **_esd_pace(world)))


def _esd_pace(world: World) -> dict[str, float | int]:
    s = world.settings
    return {
        "steps": s.esd_steps,
        "batch_size": s.esd_batch,
        "learning_rate": s.esd_rate,
        "seed": world.seed,
    }


def _esd(world: World, config: EsdConfig) -> Deltas:
    concept, null = _prompts(world)
    draw = from_sampling(world.denoiser, null, LATENT, sample_steps=world.settings.sampling_steps)
    return esd(world.denoiser, world.layout, concept, null, draw, config).deltas


def uce_edit(world: World) -> Deltas:
    """UCE: 0 shall act like no label, the other nine directions are preserved."""
    weights = world.denoiser.weights
    concept, null = (context.tokens[:, 0] for context in _prompts(world))
    preserved = world.encoder.encode(NAMES[1:]).tokens[:, 0]
    keys = context_keys(weights, world.layout)
    return uce(weights.__getitem__, keys, concept, null, preserved)


def stereo_edit(world: World) -> Deltas:
    """STEREO, all but the class's weights, on noised pictures. There are no scenes here: other
    digits are anchors."""
    concept, null = _prompts(world)
    s = world.settings
    config = StereoConfig(
        "u",
        erase_steps=s.esd_steps,
        erase_learning_rate=s.esd_rate,
        attack_steps=s.attack_steps,
        attack_learning_rate=s.inversion_rate,
        final_steps=s.esd_steps,
        final_learning_rate=s.esd_rate,
        batch_size=s.esd_batch,
        sentences=("{}",),
        start=RANDOM,
        seed=world.seed,
    )
    pictures, anchors = world.of(0, concept), world.encoder.encode(NAMES[1:])
    draw = from_latents(world.denoiser, pictures.latents)  # sampling would take 50 times as long
    texts = concept, anchors, null
    made = stereo(world.denoiser, world.layout, world.encoder, pictures, *texts, config, draw=draw)
    return made.deltas


def pruned(world: World) -> Deltas:
    """ConceptPrune of what acts for 0 and not without a label, in the first fifth of the steps."""
    keys = prunable_keys(world.denoiser.weights, world.layout)
    heard = [_heard(world, context) for context in _prompts(world)]
    return concept_prune(world.denoiser.weights.__getitem__, keys, *heard).deltas


def _heard(world: World, context: Context) -> ColumnNorms:
    norms, steps = ColumnNorms(), dict[str, int]()

    def listen(key: str, inputs: Tensor) -> None:
        norms.add(key, steps.get(key, 0), inputs)
        steps[key] = steps.get(key, 0) + 1

    count = world.settings.prune_draws
    world.denoiser.listener = listen
    try:
        rows = torch.zeros(count, dtype=torch.int64)
        world.sampler.images(context.pick(rows), range(8_000_000, 8_000_000 + count))
    finally:
        world.denoiser.listener = None
    return norms


METHODS: Mapping[str, Callable[[World], Deltas]] = {
    "tv": task_vector,
    "tv_empty": empty_task_vector,
    "conditional": conditional_task_vector,
    "input_dependent": input_dependent,
    "esd_x": esd_x,
    "esd_u": esd_u,
    "uce": uce_edit,
    "stereo": stereo_edit,
    "prune": pruned,
}

PUBLISHED_STRENGTH = 1.9  # of the authors' task vector, the best of those they measured
# Strengths that are counted besides the tuned one: a neighbour's edited weights are at 1.
OWN_STRENGTHS: Mapping[str, tuple[float, ...]] = {
    **dict.fromkeys(METHODS, (1.0,)),
    "tv": (1.0, PUBLISHED_STRENGTH),
    "tv_empty": (PUBLISHED_STRENGTH,),
    "conditional": (PUBLISHED_STRENGTH,),
}
