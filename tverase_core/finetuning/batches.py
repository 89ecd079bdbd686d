"""What a fine-tune shows the denoiser: noisy latents of the concept, all drawn from one seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..concept_set import ConceptSet, Guide
from ..ports import Context, Denoiser
from .config import FinetuneConfig


@dataclass(frozen=True, slots=True)
class Part:
    """One forward pass: noisy latents [b, c, h, w], timesteps [b], what to predict, the text.

    guide: text with and without the concept, where the target is to be guided.
    """

    x_t: Tensor
    timesteps: Tensor
    target: Tensor
    context: Context
    guide: Guide | None = None


def batches(
    denoiser: Denoiser, pictures: ConceptSet, config: FinetuneConfig, skip: int = 0
) -> Iterator[list[Part]]:
    """Endless batches, each in `accumulation` parts on the denoiser's device.

    skip: leave out that many first batches, to go on after them.
    """
    source = torch.Generator().manual_seed(config.seed)
    schedule, guide = denoiser.schedule, pictures.guide if config.guidance else None
    for number, rows in enumerate(_picks(len(pictures), config.batch_size, source)):
        x0 = pictures.latents[rows]
        if config.flip:
            flipped = torch.rand(len(rows), generator=source) < 0.5
            x0 = torch.where(flipped.view(-1, 1, 1, 1), x0.flip(-1), x0)
        noise = torch.randn(x0.shape, generator=source)
        timesteps = config.timesteps(len(rows), schedule, source)
        if number < skip:
            continue
        x_t, target = (form(x0, noise, timesteps) for form in (schedule.add_noise, schedule.target))
        device = denoiser.device
        yield [
            Part(
                x_t[part].to(device),
                timesteps[part].to(device),
                target[part].to(device),
                pictures.contexts_of(rows[part]).to(device),
                guide and guide.of(rows[part]).to(device),
            )
            for part in torch.arange(len(rows)).chunk(config.accumulation)
        ]


def _picks(count: int, size: int, source: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of picture numbers: every picture once before any comes again."""
    waiting = torch.empty(0, dtype=torch.int64)
    while True:
        while len(waiting) < size:
            waiting = torch.cat([waiting, torch.randperm(count, generator=source)])
        yield waiting[:size]
        waiting = waiting[size:]
