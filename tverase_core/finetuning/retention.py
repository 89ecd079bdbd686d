"""Keep what must stay while a concept is learned. Our addition; arXiv 2404.03631 has none of it.

Subtracting a task vector also moves predictions that have nothing to do with the concept. So a
second loss is put on pictures of other things: with strength s of the vector subtracted, s drawn
anew for each step, the denoiser shall predict what the unedited one predicts. The sign matters:
kept under added deltas, predictions are not kept under subtracted ones (measured on the demo
model). Half of these pictures are shown under the empty caption: guidance multiplies any gap
between the captioned and the empty prediction.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..concept_set import ConceptSet
from ..ports import Attachment, Context, Denoiser, joined
from ..vector.erase import signed_scale
from .config import FinetuneConfig

EMPTY_SHARE = 0.5  # of the retained pictures that are shown without caption


def retention_losses(
    denoiser: Denoiser,
    attachment: Attachment,
    concept: ConceptSet,
    retained: ConceptSet,
    config: FinetuneConfig,
    step: int,
) -> Iterator[Tensor]:
    """The losses of one step, one for each part of the batch, with gradient, already weighted.

    retained: what must stay, each picture under its own caption. Every draw depends on
    (config.seed, step) alone. While a loss is in use the attachment holds the subtracted strength;
    after the last one it is at 1 again.
    """
    source = torch.Generator().manual_seed((config.seed * 1_000_003 + step) % 2**32)
    size, device, schedule = config.batch_size, denoiser.device, denoiser.schedule
    rows = torch.randint(len(retained), (size,), generator=source)
    x0 = retained.latents[rows]
    noise = torch.randn(x0.shape, generator=source)
    timesteps = config.timesteps(size, schedule, source)
    x_t = schedule.add_noise(x0, noise, timesteps)
    bare = torch.rand(size, generator=source) < EMPTY_SHARE
    context = mixed(retained.contexts_of(rows), concept.empty.pick(rows * 0), bare)
    strength = config.retained_strength * float(torch.rand((), generator=source))
    try:
        for part in torch.arange(size).chunk(config.accumulation):
            shown = x_t[part].to(device), timesteps[part].to(device), context.pick(part).to(device)
            with torch.no_grad():
                attachment.scale = 0.0
                target = denoiser.predict(*shown)
            attachment.scale = signed_scale(strength)
            error = (denoiser.predict(*shown) - target).square().mean()
            yield config.retained_weight * error / config.accumulation
    finally:
        attachment.scale = 1.0


def mixed(first: Context, second: Context, take_second: Tensor) -> Context:
    """Row by row from one or the other; take_second: bool [n]."""
    count = len(take_second)
    rows = torch.arange(count) + count * take_second.long()
    return joined(first, second).pick(rows)
