"""A set of inversions: the attack battery that a strength is chosen against."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import (
    BaseMismatchError,
    ConfigError,
    InversionError,
    NonFiniteError,
    ShapeMismatchError,
    TextWidthError,
)
from ..ports import Context, TextEncoder
from ..tensors import memory_bytes
from .cosines import cosines

WHOLE_TABLE = 100_000_000  # numbers; the largest of CLIP has 63 million


@dataclass(frozen=True, slots=True)
class InversionSet:
    """n embeddings that make the base model draw a concept.

    vectors: by tower float32 [n, t, d]. losses: float32 [n], on shared draws. seeds: int64 [n],
    distinct. hit_rates: float32 [n], share of the base model's pictures on which the judge fired;
    None before validation. valid: bool [n]. template: the sentence around {}. text_encoder: digest.
    objective: the engine's settings. notes: what happened on the way (restarted, dropped).
    Raises ShapeMismatchError, NonFiniteError, ConfigError (seeds repeat).
    """

    vectors: Mapping[str, Tensor]
    losses: Tensor
    seeds: Tensor
    valid: Tensor
    concept: str
    template: str
    text_encoder: str
    hit_rates: Tensor | None = None
    objective: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.seeds)
        rows: dict[str, Tensor] = {"losses": self.losses, "valid": self.valid, **self.vectors}
        if self.hit_rates is not None:
            rows["hit_rates"] = self.hit_rates
        if count == 0 or not self.vectors:
            raise ShapeMismatchError("An inversion set needs at least one embedding.", "vectors")
        for name, value in rows.items():
            if len(value) != count or value.ndim != (3 if name in self.vectors else 1):
                raise ShapeMismatchError(
                    f"Inversion set {self.concept!r}: {name} has shape {tuple(value.shape)}, "
                    f"expected {count} rows.",
                    name,
                    (count,),
                    value.shape,
                )
            if not bool(torch.isfinite(value).all()):
                raise NonFiniteError(
                    f"Inversion set {self.concept!r}: {name} holds NaN or infinity."
                )
        if len(set(self.seeds.tolist())) != count:
            raise ConfigError(f"Inversion set {self.concept!r}: seeds repeat.")

    def __len__(self) -> int:
        return len(self.seeds)

    def get_ram_usage(self) -> int:
        """Bytes of main memory that its tensors hold; the name is ComfyUI's cache's."""
        rows = [*self.vectors.values(), self.losses, self.seeds, self.valid]
        return memory_bytes(rows if self.hit_rates is None else [*rows, self.hit_rates])

    def widths(self) -> dict[str, int]:
        """Embedding width by tower."""
        return {tower: value.shape[2] for tower, value in self.vectors.items()}

    def cosine_matrix(self) -> Tensor:
        """Cosine of each pair in the tower where they are most alike, float32 [n, n]."""
        return torch.stack([cosines(v, v) for v in self.vectors.values()]).amax(0).clamp(-1, 1)

    def max_cosine(self) -> float | None:
        """The most alike pair's cosine; None for a single embedding."""
        if len(self) < 2:
            return None
        apart = ~torch.eye(len(self), dtype=torch.bool)
        return float(self.cosine_matrix()[apart].max())

    def subset(self, indices: Sequence[int]) -> InversionSet:
        """The given embeddings in the given order. Raises ConfigError when out of range."""
        if not indices or not all(0 <= k < len(self) for k in indices):
            raise ConfigError(f"Expected numbers 0 to {len(self) - 1}, got {list(indices)}.")
        rows = torch.tensor(list(indices))
        return replace(
            self,
            vectors={tower: value[rows] for tower, value in self.vectors.items()},
            losses=self.losses[rows],
            seeds=self.seeds[rows],
            valid=self.valid[rows],
            hit_rates=None if self.hit_rates is None else self.hit_rates[rows],
        )

    def only_valid(self) -> InversionSet | None:
        """Without the invalid ones; None when none is valid."""
        rows = self.valid.nonzero()[:, 0].tolist()
        return self.subset(rows) if rows else None

    def require_valid(self) -> InversionSet:
        """`only_valid`, or InversionError: triggers that draw nothing cannot measure an erasure."""
        usable = self.only_valid()
        if usable is None:
            raise InversionError(
                f"None of the {len(self)} embeddings for {self.concept!r} makes the base draw "
                "it. Run Diverse Inversion again with more steps, or on clearer pictures."
            )
        return usable

    def split(self, tuning: float, seed: int) -> tuple[InversionSet, InversionSet]:
        """Disjoint tuning and held-out sets; tuning is the first one's share, both get one or more.

        Raises ConfigError for fewer than two embeddings or a share outside (0, 1).
        """
        if len(self) < 2 or not 0 < tuning < 1:
            raise ConfigError(
                f"A split needs two embeddings or more and a share between 0 and 1, got "
                f"{len(self)} and {tuning}. Invert more, or tune without verification."
            )
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)).tolist()
        cut = min(max(round(tuning * len(self)), 1), len(self) - 1)
        return self.subset(sorted(order[:cut])), self.subset(sorted(order[cut:]))

    def contexts(self, encoder: TextEncoder) -> Context:
        """One row an embedding, in the template. Raises as `check_encoder`."""
        self.check_encoder(encoder)
        with torch.no_grad():
            return encoder.encode_with(self.vectors, self.template)

    def check_encoder(self, encoder: TextEncoder) -> None:
        """Raises TextWidthError for other towers or widths, BaseMismatchError for other tables."""
        if dict(encoder.widths()) != self.widths():
            raise TextWidthError(
                f"Inversion set {self.concept!r} was made for a text encoder of widths "
                f"{self.widths()}, this one has {dict(encoder.widths())}. Use the model it was "
                "made with, or run Diverse Inversion on this one."
            )
        if encoder_digest(encoder) != self.text_encoder:
            raise BaseMismatchError(
                f"Inversion set {self.concept!r} was made with another text encoder (digest "
                f"{self.text_encoder}, this one {encoder_digest(encoder)}). Run Diverse Inversion "
                "on this one."
            )


def encoder_digest(encoder: TextEncoder) -> str:
    """Short sha256 over every tower's embedding table, rounded to float16; of the tables of
    language models over every 64th row."""
    total = hashlib.sha256()
    for tower in sorted(encoder.widths()):
        table = encoder.vocabulary(tower).detach()
        total.update(f"{tower}{tuple(table.shape)}".encode())
        rows = table[:: 1 if table.numel() <= WHOLE_TABLE else 64]
        # Half precision, so that a table loaded as float32 and as float16 has one digest.
        total.update(rows.cpu().half().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]
