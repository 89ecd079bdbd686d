"""Pictures of one concept as scaled latents, each with the text it is shown under."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import EmptyConceptSetError, NonFiniteError, ShapeMismatchError
from .ports import Context


@dataclass(frozen=True, slots=True)
class ConceptSet:
    """n pictures of a concept. Build it with `concept_set`, which also computes the digest.

    concept: the name a user gave it.
    latents: float32 [n, c, h, w], CPU, already scaled the way the denoiser wants them.
    contexts: n rows, or one row that every picture shares (the paper's empty caption).
    empty: one row, what a picture without caption is shown under.
    digest: short sha256 of all of the above.
    """

    concept: str
    latents: Tensor
    contexts: Context
    empty: Context
    digest: str

    def __len__(self) -> int:
        return len(self.latents)

    def contexts_of(self, rows: Tensor) -> Context:
        """The contexts of the given pictures, rows int64 [b]."""
        return self.contexts.pick(rows if len(self.contexts.tokens) > 1 else rows * 0)


def concept_set(
    concept: str, latents: Tensor, contexts: Context, empty: Context | None = None
) -> ConceptSet:
    """Check the parts and make a set of them; the tensors are copied.

    latents: floating [n, c, h, w], already scaled; contexts: n rows, or one for all; empty: the
    empty caption, one row; None: the first row of contexts.
    Raises EmptyConceptSetError (n = 0), ShapeMismatchError, NonFiniteError.
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
    copied, own_latents = _copied(contexts), _own(latents)
    tensors = {"latents": own_latents, "tokens": copied.tokens, **copied.extra}
    bare = copied.pick(torch.zeros(1, dtype=torch.int64))
    if empty is not None:
        for name, part in {"tokens": empty.tokens, **empty.extra}.items():
            _check(concept, f"empty caption's {name}", part, 1)
        bare = _copied(empty)
        tensors |= {f"empty {k}": v for k, v in {"tokens": bare.tokens, **bare.extra}.items()}
    return ConceptSet(concept, own_latents, copied, bare, _digest(concept, tensors))


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


def _copied(context: Context) -> Context:
    return Context(_own(context.tokens), {k: _own(v) for k, v in context.extra.items()})


def _own(value: Tensor) -> Tensor:
    # The clone matters: tensors made in the host's inference mode cannot take part in training.
    with torch.inference_mode(False):
        return value.detach().to("cpu", torch.float32).clone().contiguous()


def _digest(concept: str, tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256(concept.encode())
    for name in sorted(tensors):
        value = tensors[name]
        total.update(f"|{name}{tuple(value.shape)}".encode())
        total.update(value.numpy().tobytes())
    return total.hexdigest()[:16]
