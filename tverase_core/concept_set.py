"""Pictures of one concept as scaled latents, each with the text it is shown under."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import EmptyConceptSetError, NonFiniteError, ShapeMismatchError
from .ports import Context
from .tensors import memory_bytes


@dataclass(frozen=True, slots=True)
class Guide:
    """What guidance pulls towards and away from; the pictures take the rows of each in turn.

    prompts: text that names the concept, whether or not a picture is shown under it; picture i of
    k rows has row i % k. contrasts: the same text without the concept, rows of their own: empty
    for an object, the subject's name for a style.
    """

    prompts: Context
    contrasts: Context

    def of(self, rows: Tensor) -> Guide:
        """The guide of the given pictures, rows int64 [b]: one row of each a picture."""
        prompts, contrasts = (c.pick(rows % len(c.tokens)) for c in (self.prompts, self.contrasts))
        return Guide(prompts, contrasts)

    def to(self, device: torch.device | str) -> Guide:
        """The same rows on that device."""
        return Guide(self.prompts.to(device), self.contrasts.to(device))


@dataclass(frozen=True, slots=True)
class ConceptSet:
    """n pictures of a concept. Build it with `concept_set`, which also computes the digest.

    concept: the name a user gave it.
    latents: float32 [n, c, h, w], CPU, already scaled the way the denoiser wants them.
    contexts: n rows, or one row that every picture shares (the paper's empty caption).
    empty: one row, what a picture without caption is shown under.
    guide: text with and without the concept, where it is known; `FinetuneConfig.guidance` asks
    for it.
    digest: short sha256 of all of the above.
    """

    concept: str
    latents: Tensor
    contexts: Context
    empty: Context
    digest: str
    guide: Guide | None = None

    def __len__(self) -> int:
        return len(self.latents)

    def get_ram_usage(self) -> int:
        """Bytes of main memory that its tensors hold; the name is ComfyUI's cache's."""
        texts = [self.contexts, self.empty]
        if self.guide is not None:
            texts += [self.guide.prompts, self.guide.contrasts]
        return memory_bytes([self.latents, *(t for text in texts for t in text.tensors())])

    def contexts_of(self, rows: Tensor) -> Context:
        """The contexts of the given pictures, rows int64 [b]."""
        return self.contexts.pick(rows if len(self.contexts.tokens) > 1 else rows * 0)


def concept_set(
    concept: str,
    latents: Tensor,
    contexts: Context,
    empty: Context | None = None,
    guide: Guide | None = None,
) -> ConceptSet:
    """Check the parts and make a set of them; the tensors are copied.

    latents: floating [n, c, h, w], already scaled; contexts: n rows, or one for all; empty: the
    empty caption, one row; None: the first row of contexts; guide: text with and without the
    concept, for guided targets.
    Raises EmptyConceptSetError (n = 0), ShapeMismatchError (rows, widths, parts of a text),
    NonFiniteError.
    """
    if latents.ndim != 4:
        raise ShapeMismatchError(
            f"Concept set {concept!r}: expected latents [n, c, h, w], got {tuple(latents.shape)}. "
            "Models with a time axis are not supported.",
            "latents",
            (),
            latents.shape,
        )
    if len(latents) == 0:
        raise EmptyConceptSetError(
            f"Concept set {concept!r} holds no pictures. Give it at least one."
        )
    parts = {"latents": latents, "contexts": contexts.tokens, **contexts.extra}
    for name, part in parts.items():
        _check(concept, name, part, len(latents))
    texts = {"contexts": contexts}
    if empty is not None:
        texts["empty caption"] = empty
    if guide is not None:
        texts |= {"prompts": guide.prompts, "contrasts": guide.contrasts}
    for name, text in texts.items():
        _check_rows(concept, name, text)
        check_one_encoder(concept, name, contexts, text)
    copied, own_latents = _copied(contexts), _own(latents)
    tensors = {"latents": own_latents, **copied.parts(), **_sizes("sizes", copied)}
    bare = copied.pick(torch.zeros(1, dtype=torch.int64))
    if empty is not None:
        for name, part in _named("empty caption's", empty).items():
            _check(concept, name, part, 1)
        bare = _copied(empty)
        tensors |= _named("empty", bare)
    if guide is not None:
        guide = Guide(_copied(guide.prompts), _copied(guide.contrasts))
        guiding = _named("prompts", guide.prompts) | _named("contrasts", guide.contrasts)
        for name, part in guiding.items():
            _check(concept, name, part, len(part) or 1)
        tensors |= guiding
    return ConceptSet(concept, own_latents, copied, bare, _digest(concept, tensors), guide)


def _named(name: str, context: Context) -> dict[str, Tensor]:
    parts = {f"{name} {k}": v for k, v in context.parts().items()}
    return parts | _sizes(f"{name} sizes", context)


def _sizes(name: str, context: Context) -> dict[str, Tensor]:
    return {f"{name} {k}": v for k, v in context.sizes.items()}


def _check(concept: str, name: str, part: Tensor, count: int) -> None:
    if len(part) not in (count, 1):
        raise ShapeMismatchError(
            f"Concept set {concept!r}: {name} has {len(part)} rows for {count} pictures. "
            f"Give one row for all, or {count}.",
            name,
            (count,),
            (len(part),),
        )
    if not bool(torch.isfinite(part).all()):
        raise NonFiniteError(
            f"Concept set {concept!r}: {name} holds NaN or infinity. "
            "Look at how the pictures were encoded (a half precision VAE can overflow)."
        )


def _check_rows(concept: str, name: str, context: Context) -> None:
    """Every part of a text has a row for each item, or the rows of one would be another's."""
    counts = {len(part) for part in context.tensors()}
    if len(counts) > 1:
        found = ", ".join(f"{k} {len(v)}" for k, v in _named(name, context).items())
        raise ShapeMismatchError(
            f"Concept set {concept!r}: {name} has parts of unequal length ({found} rows). Encode "
            "all of it together.",
            name,
            (len(context.tokens),),
            (max(counts),),
        )


def check_one_encoder(concept: str, name: str, first: Context, second: Context) -> None:
    """Whether both texts have the same parts, of equal width. Raises ShapeMismatchError."""

    def widths(context: Context) -> dict[str, tuple[int, ...]]:
        # Masks are whole numbers and as long as their text, which may be of any length.
        return {
            name: (part.shape[-1],) if part.is_floating_point() else ()
            for name, part in context.parts().items()
        }

    wanted, found = widths(first), widths(second)
    if wanted != found:
        raise ShapeMismatchError(
            f"Concept set {concept!r}: {name} has {found} where the captions have {wanted}. "
            "Encode both with the same model's text encoder.",
            name,
            (),
            (),
        )


def _copied(context: Context) -> Context:
    return Context(
        _own(context.tokens),
        {k: _own(v) for k, v in context.extra.items()},
        {k: _own(v) for k, v in context.sizes.items()},
    )


def _own(value: Tensor) -> Tensor:
    # The clone matters: tensors made in the host's inference mode cannot take part in training.
    with torch.inference_mode(False):
        dtype = torch.float32 if value.is_floating_point() else value.dtype
        return value.detach().to("cpu", dtype).clone().contiguous()


def _digest(concept: str, tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256(concept.encode())
    for name in sorted(tensors):
        value = tensors[name]
        total.update(f"|{name}{tuple(value.shape)}".encode())
        total.update(value.numpy().tobytes())
    return total.hexdigest()[:16]
