"""What the core asks of a host. ComfyUI's adapters live in `nodes/host/`; tests have tiny ones.

Symbols: b batch, c latent channels, h and w latent height and width, s tokens, d text width,
t vectors per inversion, n items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from .errors import ShapeMismatchError
from .schedule import Schedule

TOKENS = "tokens"  # name of the text encoder's output among a context's parts


@dataclass(frozen=True, slots=True)
class Context:
    """What the denoiser is conditioned on, one row an item.

    tokens: float [n, s, d], the text encoder's output.
    extra: what else it gives, by the host's own names, each [n, ...]: pooled outputs, masks (whole
    numbers), the states of further encoders.
    sizes: of a part whose rows differ in size, by its name (TOKENS, or its name in `extra`): what
    counts of each axis after the first, int64 [n, axes]; the rest of the row is padding. Texts
    are not repeated to one length: a transformer would read them twice.
    """

    tokens: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    sizes: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def parts(self) -> dict[str, Tensor]:
        """Tokens and extras, by name."""
        return {TOKENS: self.tokens, **self.extra}

    def pick(self, rows: Tensor) -> Context:
        """The given rows (int64 [b], repeats allowed) as a new context."""
        return self._each(lambda part: part[rows])

    def tensors(self) -> tuple[Tensor, ...]:
        """All that it holds."""
        return (*self.parts().values(), *self.sizes.values())

    def to(self, device: torch.device | str) -> Context:
        """The same rows on that device."""
        return self._each(lambda part: part.to(device))

    def even(self) -> Iterator[tuple[Tensor, Context]]:
        """Its rows in groups of one size: their numbers, int64 [b], and they without padding."""
        if not self.sizes:
            yield torch.arange(len(self)), self
            return
        sizes = torch.cat([size.cpu() for size in self.sizes.values()], 1)
        kinds, kind_of = torch.unique(sizes, dim=0, return_inverse=True)
        for kind in range(len(kinds)):
            rows = (kind_of == kind).nonzero().flatten()
            picked = self.pick(rows.to(self.tokens.device))
            parts = {
                name: _cut(part, picked.sizes.get(name)) for name, part in picked.parts().items()
            }
            yield rows, Context(parts.pop(TOKENS), parts)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Context:
        return Context(
            change(self.tokens),
            {name: change(part) for name, part in self.extra.items()},
            {name: change(size) for name, size in self.sizes.items()},
        )


def _cut(part: Tensor, sizes: Tensor | None) -> Tensor:
    """Rows of one size [n, ...] without their padding."""
    for axis, size in enumerate([] if sizes is None else sizes[0].tolist(), 1):
        part = part.narrow(axis, 0, size)
    return part


def joined(*parts: Context) -> Context:
    """The rows of all parts (one at least), in order, on the first one's device.

    All have the extra inputs of the first. Shorter ones are padded with zeros, and `sizes` says so.
    Raises ShapeMismatchError for texts of unequal width.
    """
    parts = tuple(part.to(parts[0].tokens.device) for part in parts)
    made, sizes = dict[str, Tensor](), dict[str, Tensor]()
    for name in parts[0].parts():
        values, known = [p.parts()[name] for p in parts], [p.sizes.get(name) for p in parts]
        if len({value.shape[1:] for value in values}) > 1 or any(k is not None for k in known):
            padded = _padded(name, values)
            sizes[name] = torch.cat([_sizes(v, k) for v, k in zip(values, known, strict=True)])
            values = padded
        made[name] = torch.cat(values)
    return Context(made.pop(TOKENS), made, sizes)


def _sizes(value: Tensor, known: Tensor | None) -> Tensor:
    if known is not None:
        return known
    return torch.tensor([value.shape[1:]] * len(value), device=value.device)


def _padded(name: str, values: Sequence[Tensor]) -> list[Tensor]:
    """Each [n, ...] with zeros up to the size of the largest."""
    widths = {value.shape[-1] for value in values}
    if len({value.ndim for value in values}) > 1 or (
        values[0].is_floating_point() and len(widths) > 1
    ):
        shapes = " and ".join(str(tuple(value.shape[1:])) for value in values)
        raise ShapeMismatchError(
            f"texts of different encoders: {name} {shapes}. Encode all of them with the text "
            "encoder of one model.",
            name,
            values[0].shape,
            values[-1].shape,
        )
    largest = [max(value.shape[axis] for value in values) for axis in range(1, values[0].ndim)]
    made = []
    for value in values:
        lacking = [size - have for size, have in zip(largest, value.shape[1:], strict=True)]
        pads = [number for lack in reversed(lacking) for number in (0, lack)]
        made.append(torch.nn.functional.pad(value, pads))
    return made


class Attachment(Protocol):
    """Deltas at work inside a denoiser: it computes with W + scale * delta."""

    scale: float
    # True where hooks on the deltas take gradients: they must then come by autograd alone, which
    # calls hooks, and not be put into `grad` by the denoiser itself.
    hooked: bool


class Denoiser(Protocol):
    """A frozen diffusion model. The caller's weights are never written."""

    schedule: Schedule
    device: torch.device

    def weight_shapes(self) -> Mapping[str, torch.Size]:
        """Every editable floating-point weight by its key (`diffusion_model....`)."""
        ...

    def attached(self, deltas: Mapping[str, Tensor]) -> AbstractContextManager[Attachment]:
        """While open, compute with W + scale * delta (scale starts at 1).

        deltas: float32, on `device`, the shapes of `weight_shapes()`; may require gradient. Those
        that do not stay as they are meanwhile: their sum with W may be kept.
        Leaving the block, by any way, restores the denoiser to the bit.
        """
        ...

    def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        """Native prediction (what `schedule.prediction` says), float32 [b, c, h, w].

        x_t: float32 [b, c, h, w] and timesteps [b], both of `schedule`; context: b rows, of
        unequal sizes too. Gradients flow to attached deltas and to the context.
        """
        ...


class TextEncoder(Protocol):
    """A frozen text encoder with one or more towers (SD1: "l"; SDXL: "l" and "g"; Flux: "l" and
    "t5xxl"; Z-Image: "qwen3_4b")."""

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
        """The whole embedding table of a tower, [rows, d], floating point as it is held."""
        ...

    def encode(self, texts: Sequence[str]) -> Context:
        """texts -> one row each."""
        ...

    def encode_with(self, vectors: Mapping[str, Tensor], template: str | Sequence[str]) -> Context:
        """Put learned vectors in place of `{}` in the template, or each in that of its own.

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
