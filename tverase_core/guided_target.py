"""Learn what guidance adds, as the base itself predicts it. Our addition to arXiv 2404.03631.

The plain loss asks for the noise that was added, one draw of what the base can say exactly: its own
prediction, moved by guidance towards the text that names the concept. For a picture x_t shown
under the text s the target is

    base(x_t, s) + guidance * (base(x_t, prompt) - base(x_t, contrast)).

If every text's prediction moves by the same guidance * d, then subtracting the vector at strength
alpha and drawing at CFG w gives base(empty) + (w - alpha * guidance) * d: the concept's pull is
gone at alpha = w / guidance. Guidance at the CFG that one draws with puts that at strength 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .concept_set import Guide
from .finetune_batches import Part
from .ports import Attachment, Context, Denoiser, joined


@torch.no_grad()
def guided_target(
    denoiser: Denoiser, attachment: Attachment, part: Part, guide: Guide, guidance: float
) -> Tensor:
    """The target above, float32 [b, c, h, w], of the base: the attached deltas count for nothing.

    By whatever way out, the attachment is at scale 1 afterwards.
    """
    texts = (guide.prompts, guide.contrasts, part.context)
    try:
        attachment.scale = 0.0
        named, bare = (denoiser.predict(part.x_t, part.timesteps, text) for text in texts[:2])
        shown = torch.where(_wide(_same(*texts[::2])), named, bare)
        rest = ~(_same(*texts[::2]) | _same(*texts[1:]))
        if bool(rest.any()):  # shown under a third text
            rows = rest.nonzero().flatten()
            shown[rows] = denoiser.predict(
                part.x_t[rows], part.timesteps[rows], part.context.pick(rows)
            )
        return shown + guidance * (named - bare)
    finally:
        attachment.scale = 1.0


def _same(first: Context, second: Context) -> Tensor:
    """Row by row, whether both are one text, bool [b]."""
    both = joined(first, second)
    parts = (both.tokens, *both.extra.values())
    halves = (part.flatten(1).chunk(2) for part in parts)
    return torch.stack([(one == other).all(1) for one, other in halves]).all(0)


def _wide(rows: Tensor) -> Tensor:
    return rows.view(-1, 1, 1, 1)
