"""What the core asks of a host. ComfyUI's adapters live in `nodes/host/`; tests have tiny ones.

Symbols: b batch, c latent channels, h and w latent height and width, s tokens, d text width,
t vectors per inversion, n items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from .schedule import NoiseSchedule


@dataclass(frozen=True, slots=True)
class Context:
    """What the denoiser is conditioned on, one row an item.

    tokens: float [n, s, d], the text encoder's output.
    extra: further per-item inputs by the denoiser's own names, each [n, ...] (SDXL: "y").
    """

    tokens: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def pick(self, rows: Tensor) -> Context:
        """The given rows (int64 [b], repeats allowed) as a new context."""
        return Context(self.tokens[rows], {k: v[rows] for k, v in self.extra.items()})

    def tensors(self) -> tuple[Tensor, ...]:
        """All that it holds."""
        return (self.tokens, *self.extra.values())

    def to(self, device: torch.device | str) -> Context:
        """The same rows on that device."""
        return Context(self.tokens.to(device), {k: v.to(device) for k, v in self.extra.items()})


def joined(*parts: Context) -> Context:
    """The rows of all parts (one at least), in order, on the first one's device.

    All have the extra inputs of the first. Shorter texts are repeated to the longest one's s, as
    ComfyUI does with prompts of unequal length.
    """
    parts = tuple(part.to(parts[0].tokens.device) for part in parts)
    length = max(part.tokens.shape[1] for part in parts)
    tokens = [
        part.tokens.repeat(1, -(-length // part.tokens.shape[1]), 1)[:, :length] for part in parts
    ]
    extra = {name: torch.cat([part.extra[name] for part in parts]) for name in parts[0].extra}
    return Context(torch.cat(tokens), extra)


class Attachment(Protocol):
    """Deltas at work inside a denoiser: it computes with W + scale * delta."""

    scale: float


class Denoiser(Protocol):
    """A frozen diffusion model. The caller's weights are never written."""

    schedule: NoiseSchedule
    device: torch.device

    def weight_shapes(self) -> Mapping[str, torch.Size]:
        """Every editable floating-point weight by its key (`diffusion_model....`)."""
        ...

    def attached(self, deltas: Mapping[str, Tensor]) -> AbstractContextManager[Attachment]:
        """While open, compute with W + scale * delta (scale starts at 1).

        deltas: float32, on `device`, the shapes of `weight_shapes()`; may require gradient.
        Leaving the block, by any way, restores the denoiser to the bit.
        """
        ...

    def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        """Native prediction (what `schedule.prediction` says), float32 [b, c, h, w].

        x_t: float32 [b, c, h, w], `sqrt(a) x0 + sqrt(1 - a) noise`; timesteps: int64 [b].
        Gradients flow to attached deltas and to the context.
        """
        ...


class TextEncoder(Protocol):
    """A frozen text encoder with one or more towers (SD1: "l"; SDXL: "l" and "g")."""

    def widths(self) -> Mapping[str, int]:
        """Embedding width d by tower name."""
        ...

    def word_vectors(self, word: str) -> Mapping[str, Tensor]:
        """The word's own token embeddings by tower, float32 [t, d]."""
        ...

    def last_tokens(self, texts: Sequence[str], tower: str) -> list[int]:
        """Where in its row of `encode` each text's last token is; 0, the start mark, where a text
        has none."""
        ...

    def vocabulary(self, tower: str) -> Tensor:
        """The whole embedding table of a tower, float32 [rows, d]."""
        ...

    def encode(self, texts: Sequence[str]) -> Context:
        """texts -> one row each."""
        ...

    def encode_with(self, vectors: Mapping[str, Tensor], template: str) -> Context:
        """Put learned vectors in place of `{}` in the template.

        vectors: by tower, float32 [n, t, d]; gradients flow back to them. One row per n.
        """
        ...


class EditableTextEncoder(TextEncoder, Protocol):
    """A text encoder whose weights can be tried out with deltas in them. The caller's own are
    never written."""

    device: torch.device

    def weight_shapes(self) -> Mapping[str, torch.Size]:
        """Every floating-point weight by its key (`text_encoders....`)."""
        ...

    def attached(self, deltas: Mapping[str, Tensor]) -> AbstractContextManager[Attachment]:
        """While open, encode with W + scale * delta (scale starts at 1).

        deltas: float32, on `device`, the shapes of `weight_shapes()`; may require gradient. Where
        autograd is enabled, gradients flow from what `encode` and `encode_with` return to them.
        Leaving the block, by any way, restores the encoder to the bit.
        """
        ...


class Sampler(Protocol):
    """Draws pictures the way the user does: sampler, steps, CFG and size are fixed inside."""

    def images(self, context: Context, seeds: Sequence[int]) -> Tensor:
        """One picture per row of `context`, row i from seeds[i]; float32 [n, H, W, 3] in 0..1."""
        ...


class Judge(Protocol):
    """Tells how surely a concept is in a picture."""

    def score(self, images: Tensor, concept: str) -> Tensor:
        """images float32 [n, H, W, 3] in 0..1 -> probability float32 [n] in 0..1."""
        ...


class Progress(Protocol):
    """Hears how far a job is; raising inside it cancels the job, which must leave no trace."""

    def __call__(self, done: int, total: int, message: str) -> None: ...


def quiet(done: int, total: int, message: str) -> None:
    """A `Progress` that nobody watches."""
