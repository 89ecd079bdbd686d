"""A tiny denoiser and text encoder for the tests of learning: plain torch, seeded, fast."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from tverase_core.concept_set import ConceptSet, concept_set
from tverase_core.ports import Context, joined
from tverase_core.schedule import NoiseSchedule

CHANNELS, SIZE, TOKENS = 3, 4, 6
WIDTHS = {"l": 8, "g": 12}
WORDS = ["a", "of", "the", "cat", "dog", "photo", "heart", "moon"]


def schedule(prediction: str = "epsilon", length: int = 20) -> NoiseSchedule:
    betas = torch.linspace(0.01, 0.2, length, dtype=torch.float64)
    return NoiseSchedule((1 - betas).cumprod(0), prediction)  # type: ignore[arg-type]


@dataclass
class Scale:
    scale: float = 1.0


class TinyDenoiser:
    """conv, text and time shift, nonlinearity, conv."""

    device = torch.device("cpu")

    def __init__(self, width: int = 8, prediction: str = "epsilon", seed: int = 0):
        source = torch.Generator().manual_seed(seed)
        self.schedule = schedule(prediction)
        shapes = {
            "diffusion_model.in.weight": (16, CHANNELS, 3, 3),
            "diffusion_model.in.bias": (16,),
            "diffusion_model.text.weight": (16, width),
            "diffusion_model.time.weight": (16, 2),
            "diffusion_model.out.weight": (CHANNELS, 16, 3, 3),
        }
        self.base = {
            key: torch.randn(shape, generator=source) * 0.2 for key, shape in shapes.items()
        }
        self.current: Mapping[str, Tensor] = self.base
        self.calls: list[int] = []

    def weight_shapes(self) -> Mapping[str, torch.Size]:
        return {key: value.shape for key, value in self.base.items()}

    @contextmanager
    def attached(self, deltas: Mapping[str, Tensor]) -> Iterator[Scale]:
        handle = Scale()
        self._deltas, self._handle = deltas, handle
        try:
            yield handle
        finally:
            del self._deltas, self._handle

    def _weight(self, key: str) -> Tensor:
        deltas = getattr(self, "_deltas", {})
        return (
            self.base[key] + self._handle.scale * deltas[key] if key in deltas else self.base[key]
        )

    def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        self.calls.append(len(x_t))
        name = "diffusion_model."
        hidden = torch.nn.functional.conv2d(
            x_t, self._weight(name + "in.weight"), self._weight(name + "in.bias"), padding=1
        )
        phase = timesteps.float() / len(self.schedule)
        text = context.tokens.mean(1) @ self._weight(name + "text.weight").T
        time = torch.stack([phase, 1 - phase], 1) @ self._weight(name + "time.weight").T
        hidden = torch.tanh(hidden + (text + time)[:, :, None, None])
        return torch.nn.functional.conv2d(hidden, self._weight(name + "out.weight"), padding=1)


class TinyEncoder:
    """Token embeddings, one mixing layer a tower, towers side by side on the last axis."""

    def __init__(self, towers: Sequence[str] = ("l",), seed: int = 1):
        source = torch.Generator().manual_seed(seed)
        self.tables = {
            tower: torch.randn(len(WORDS) + 40, WIDTHS[tower], generator=source) * 0.4
            for tower in towers
        }
        self.mix = {
            tower: torch.randn(WIDTHS[tower], WIDTHS[tower], generator=source) * 0.4
            for tower in towers
        }

    def widths(self) -> Mapping[str, int]:
        return {tower: table.shape[1] for tower, table in self.tables.items()}

    def _rows(self, text: str) -> list[int]:
        return [WORDS.index(word) if word in WORDS else len(WORDS) for word in text.split()]

    def word_vectors(self, word: str) -> Mapping[str, Tensor]:
        return {tower: table[self._rows(word)] for tower, table in self.tables.items()}

    def vocabulary(self, tower: str) -> Tensor:
        return self.tables[tower]

    def _context(self, embedded: Mapping[str, Tensor]) -> Context:
        towers = []
        for tower, table in self.tables.items():
            rows = embedded[tower]
            rest = table[-1].expand(len(rows), TOKENS - rows.shape[1], -1)
            towers.append(torch.tanh(torch.cat([rows, rest], 1) @ self.mix[tower]) * 2)
        return Context(torch.cat(towers, -1))

    def encode(self, texts: Sequence[str]) -> Context:
        per_text = [
            self._context({k: table[self._rows(text)][None] for k, table in self.tables.items()})
            for text in texts
        ]
        return Context(torch.cat([context.tokens for context in per_text]))

    def encode_with(self, vectors: Mapping[str, Tensor], template: str | Sequence[str]) -> Context:
        if not isinstance(template, str):
            ones = ({k: v[i : i + 1] for k, v in vectors.items()} for i in range(len(template)))
            return joined(*map(self.encode_with, ones, template))
        before, after = re.split(r"\{\}", template)
        count = len(next(iter(vectors.values())))
        embedded = {
            tower: torch.cat(
                [
                    table[self._rows(before)].expand(count, -1, -1),
                    vectors[tower],
                    table[self._rows(after)].expand(count, -1, -1),
                ],
                1,
            )
            for tower, table in self.tables.items()
        }
        return self._context(embedded)


def pictures(count: int = 8, rows: int = 1, width: int = 8, seed: int = 3) -> ConceptSet:
    source = torch.Generator().manual_seed(seed)
    shape = torch.randn(1, CHANNELS, SIZE, SIZE, generator=source)
    latents = shape + 0.2 * torch.randn(count, CHANNELS, SIZE, SIZE, generator=source)
    return concept_set("cat", latents, Context(torch.randn(rows, TOKENS, width, generator=source)))


def silent(done: int, total: int, message: str) -> None:
    """Progress that nobody watches."""
