"""The unedited model of a seed: directions, latents and a denoiser trained from random weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tverase_core import ConceptSet, FinetuneConfig, detect_layout, finetune
from tverase_core.concept_set import concept_set
from tverase_core.model.layout import ModelLayout
from tverase_core.ports import Context, joined, quiet

from .classes import NAMES, ClassEncoder, spread_directions
from .denoiser import DigitDenoiser, random_weights
from .digits import Digits, Latents
from .drawing import DigitSampler
from .settings import Settings

DROPPED = 0.1  # of the base's pictures are shown under no class, as for guidance


@dataclass(frozen=True, slots=True)
class World:
    """What every method of a seed works on."""

    settings: Settings
    seed: int
    digits: Digits
    latents: Latents
    encoder: ClassEncoder
    denoiser: DigitDenoiser
    layout: ModelLayout
    sampler: DigitSampler

    def of(self, digit: int, contexts: Context) -> ConceptSet:
        """The pictures of a digit, each shown under every row of the contexts."""
        latents, rows = self.latents.encode(self.digits.of(digit)), len(contexts.tokens)
        under = torch.arange(rows).repeat_interleave(len(latents))
        return concept_set(NAMES[digit], latents.repeat(rows, 1, 1, 1), contexts.pick(under))


def pictures_of_all(digits: Digits, latents: Latents, encoder: ClassEncoder) -> ConceptSet:
    """Every picture under its class, and a share of them once more under none."""
    codes = latents.encode(digits.pictures)
    named = encoder.encode(NAMES).pick(digits.labels)
    bare = encoder.encode([""]).pick(torch.zeros(int(DROPPED * len(codes)), dtype=torch.int64))
    both = torch.cat([codes, codes[: len(bare.tokens)]])
    return concept_set("digits", both, joined(named, bare))


def trained_weights(
    settings: Settings, seed: int, digits: Digits, latents: Latents, encoder: ClassEncoder
) -> dict[str, Tensor]:
    """Random weights and what the core's fine-tune adds to them: a whole training."""
    start = random_weights(seed)
    config = FinetuneConfig(
        steps=settings.base_steps,
        batch_size=settings.base_batch,
        accumulation=1,
        learning_rate=settings.base_rate,
        rate_schedule="cosine",
        flip=False,
        seed=seed,
    )
    pictures = pictures_of_all(digits, latents, encoder)
    learned = finetune(DigitDenoiser(start), pictures, config, quiet)
    return {key: value + learned.deltas[key] for key, value in start.items()}


def build_world(settings: Settings, seed: int, digits: Digits) -> World:
    """Train the base of a seed on these digits."""
    latents, encoder = Latents(digits.pictures), ClassEncoder(spread_directions(seed))
    weights = trained_weights(settings, seed, digits, latents, encoder)
    denoiser = DigitDenoiser(weights)
    layout = detect_layout(weights)
    sampler = DigitSampler(denoiser, latents, settings.sampling_steps)
    return World(settings, seed, digits, latents, encoder, denoiser, layout, sampler)
