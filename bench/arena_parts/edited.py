"""A model with a method's edit at work in it, ready to be drawn with and to be attacked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from tverase_core.model.layout import TEXT_PREFIX
from tverase_core.ports import Attachment, Context, Denoiser, Sampler, TextEncoder

from .world import World


@dataclass
class Unedited:
    """Stands for an attachment where nothing is attached."""

    scale: float = 0.0


class Rows:
    """A context that is encoded anew when the edit has another strength, which changes the text
    encoder in some methods. Used as a `Context` of which rows are picked."""

    def __init__(self, encode: Callable[[], Context], attachment: Attachment):
        self._encode, self._attachment = encode, attachment
        self._at: float | None = None
        self._now: Context | None = None

    @property
    def tokens(self) -> torch.Tensor:
        return self._context().tokens

    def pick(self, rows: torch.Tensor) -> Context:
        return self._context().pick(rows)

    def _context(self) -> Context:
        if self._now is None or self._at != self._attachment.scale:
            with torch.no_grad():
                self._now, self._at = self._encode(), self._attachment.scale
        return self._now


@dataclass(frozen=True)
class Edited:
    """attachment.scale is minus the strength; see `signed_scale`."""

    denoiser: Denoiser
    encoder: TextEncoder
    sampler: Sampler
    attachment: Attachment

    def texts(self, lines: Sequence[str]) -> Rows:
        """One row a prompt."""
        return self.rows(lambda: self.encoder.encode(list(lines)))

    def rows(self, encode: Callable[[], Context]) -> Rows:
        return Rows(encode, self.attachment)


class HasDeltas(Protocol):
    """A task vector."""

    deltas: Any


def of_text_encoder(vector: HasDeltas) -> bool:
    """Whether the method edits the text encoder instead of the model."""
    return next(iter(vector.deltas)).startswith(TEXT_PREFIX)


@contextmanager
def edited(
    world: World, vector: Any = None, strength: float = 0.0, mask: Any = None
) -> Iterator[Edited]:
    """The base minus strength * mask * vector; without a vector the base itself."""
    from tverase_pack.nodes.host.drawing.studio import HostSampler, open_studio
    from tverase_pack.nodes.host.model.edits import checked_deltas, on_device
    from tverase_pack.nodes.host.text.edits import EditableHostTextEncoder, checked_clip_deltas
    from tverase_pack.tverase_core.vector.erase import signed_scale

    parts, settings = (world.model, world.clip, world.vae), world.sampler()
    with open_studio(*parts, settings, purpose="bench arena", autocast=True) as studio:
        if vector is None:
            yield Edited(studio.denoiser, studio.encoder, studio.sampler, Unedited())
        elif of_text_encoder(vector):
            encoder = EditableHostTextEncoder(world.model, world.clip)
            deltas, _ = checked_clip_deltas(world.clip, vector, allow_other_weights=False)
            with encoder.attached(on_device(deltas, encoder.device)) as attachment:
                attachment.scale = signed_scale(strength)
                empty = Rows(lambda: encoder.encode([""]), attachment)
                sampler = HostSampler(studio.denoiser, world.vae, empty, settings)
                yield Edited(studio.denoiser, encoder, sampler, attachment)
        else:
            plan = checked_deltas(world.model, vector, mask, allow_other_weights=False)
            deltas = on_device(plan, studio.denoiser.device)
            with studio.denoiser.attached(deltas) as attachment:
                attachment.scale = signed_scale(strength)
                yield Edited(studio.denoiser, studio.encoder, studio.sampler, attachment)
