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

from ..concept_set import Guide
from ..ports import Attachment, Context, Denoiser, joined
from .batches import Part


@torch.no_grad()
def guided_target(
    denoiser: Denoiser, attachment: Attachment, part: Part, guide: Guide, guidance: float
) -> Tensor:
    """The target above, float32 [b, c, h, w], of the base: the attached deltas count for nothing.

    By whatever way out, the attachment is at scale 1 afterwards.
    """
    as_named, as_bare = (_same(part.context, text) for text in (guide.prompts, guide.contrasts))
    third = (~(as_named | as_bare)).nonzero().flatten()
    try:
        attachment.scale = 0.0
        # One call: a network computes few rows little faster than twice as many.
        twice = part.x_t.repeat(2, 1, 1, 1), part.timesteps.repeat(2)
        named, bare = denoiser.predict(*twice, joined(guide.prompts, guide.contrasts)).chunk(2)
        shown = torch.where(as_named.view(-1, 1, 1, 1), named, bare)
        if len(third):  # pictures shown under neither text
            shown[third] = denoiser.predict(
                part.x_t[third], part.timesteps[third], part.context.pick(third)
            )
        return shown + guidance * (named - bare)
    finally:
        attachment.scale = 1.0


def _same(first: Context, second: Context) -> Tensor:
    """Row by row, whether both are one text, bool [b]."""
    both = joined(first, second)
    halves = (part.flatten(1).chunk(2) for part in both.tensors())
    return torch.stack([(one == other).all(1) for one, other in halves]).all(0)
