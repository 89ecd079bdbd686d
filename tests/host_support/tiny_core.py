"""Tiny models for the core's ports in plain torch: under 50,000 parameters, seeded, no host."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from tverase_core.ports import Context, joined
from tverase_core.schedule import NoiseSchedule, Prediction

WIDTH = 16  # channels inside the denoiser
TEXT_WIDTH = 12  # context width d of every tiny encoder
TOKENS = 8
IN, MID, OUT = "input_blocks.1", "middle_block", "output_blocks.0"


def tiny_schedule(prediction: Prediction = "epsilon", steps: int = 100) -> NoiseSchedule:
    """A short "scaled linear" schedule."""
    betas = torch.linspace(0.01**0.5, 0.12**0.5, steps, dtype=torch.float64) ** 2
    return NoiseSchedule(torch.cumprod(1 - betas, 0), prediction)


def _shapes() -> dict[str, tuple[int, ...]]:
    """Weights by the names that SD 1.x has in ComfyUI."""
    shapes: dict[str, tuple[int, ...]] = {
        "time_embed.0.weight": (WIDTH, WIDTH),
        "time_embed.0.bias": (WIDTH,),
        "input_blocks.0.0.weight": (WIDTH, 4, 3, 3),
        "input_blocks.0.0.bias": (WIDTH,),
        "out.2.weight": (4, WIDTH, 3, 3),
        "out.2.bias": (4,),
    }
    for block in (IN, MID, OUT):
        convolution = f"{block}.0.in_layers.2"
        attention = f"{block}.1.transformer_blocks.0.attn2"
        shapes[f"{convolution}.weight"] = (WIDTH, WIDTH, 3, 3)
        shapes[f"{convolution}.bias"] = (WIDTH,)
        shapes[f"{attention}.to_q.weight"] = (WIDTH, WIDTH)
        shapes[f"{attention}.to_k.weight"] = (WIDTH, TEXT_WIDTH)
        shapes[f"{attention}.to_v.weight"] = (WIDTH, TEXT_WIDTH)
        shapes[f"{attention}.to_out.0.weight"] = (WIDTH, WIDTH)
        shapes[f"{attention}.to_out.0.bias"] = (WIDTH,)
    return {f"diffusion_model.{name}": shape for name, shape in shapes.items()}


@dataclass
class _Attachment:
    deltas: Mapping[str, Tensor]
    scale: float = 1.0
    hooked: bool = False


class TinyDenoiser:
    """ports.Denoiser: two scales of nothing, three cross-attentions, about 13,000 weights."""

    def __init__(self, seed: int = 0, prediction: Prediction = "epsilon"):
        generator = torch.Generator().manual_seed(seed)
        self.schedule = tiny_schedule(prediction)
        self.device = torch.device("cpu")
        self.weights: dict[str, Tensor] = {}
        for key, shape in _shapes().items():
            fan_in = max(1, int(torch.tensor(shape[1:]).prod()))
            values = torch.randn(shape, generator=generator) / fan_in**0.5
            self.weights[key] = values if len(shape) > 1 else torch.zeros(shape)
        self._attached: list[_Attachment] = []

    def weight_shapes(self) -> Mapping[str, torch.Size]:
        """Every weight by its key."""
        return {key: weight.shape for key, weight in self.weights.items()}

    @contextmanager
    def attached(self, deltas: Mapping[str, Tensor]) -> Iterator[_Attachment]:
        """While open, compute with W + scale * delta."""
        attachment = _Attachment(deltas)
        self._attached.append(attachment)
        try:
            yield attachment
        finally:
            self._attached.remove(attachment)

    def _weight(self, name: str) -> Tensor:
        key = f"diffusion_model.{name}"
        weight = self.weights[key]
        for attachment in self._attached:
            if key in attachment.deltas:
                weight = weight + attachment.scale * attachment.deltas[key]
        return weight

    def _linear(self, name: str, x: Tensor, bias: bool = True) -> Tensor:
        return F.linear(x, self._weight(f"{name}.weight"), self._bias(name) if bias else None)

    def _conv(self, name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, self._weight(f"{name}.weight"), self._bias(name), padding=1)

    def _bias(self, name: str) -> Tensor:
        return self._weight(f"{name}.bias")

    def _cross_attention(self, name: str, x: Tensor, tokens: Tensor) -> Tensor:
        flat = x.flatten(2).transpose(1, 2)  # [b, hw, width]
        query = self._linear(f"{name}.to_q", flat, bias=False)
        key = self._linear(f"{name}.to_k", tokens, bias=False)
        value = self._linear(f"{name}.to_v", tokens, bias=False)
        mixed = torch.softmax(query @ key.transpose(1, 2) / WIDTH**0.5, -1) @ value
        return x + self._linear(f"{name}.to_out.0", mixed).transpose(1, 2).reshape(x.shape)

    def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        """Native prediction, [b, 4, h, w]."""
        frequencies = torch.exp(-torch.arange(WIDTH // 2) * 0.7)
        angles = timesteps[:, None].float() * frequencies
        time = torch.tanh(self._linear("time_embed.0", torch.cat([angles.sin(), angles.cos()], 1)))
        if "y" in context.extra:
            time = time + context.extra["y"].mean(1, keepdim=True)
        h = self._conv("input_blocks.0.0", x_t)
        for block in (IN, MID, OUT):
            h = h + F.silu(self._conv(f"{block}.0.in_layers.2", h + time[:, :, None, None]))
            attention = f"{block}.1.transformer_blocks.0.attn2"
            h = self._cross_attention(attention, h, context.tokens)
        return self._conv("out.2", F.silu(h))


@dataclass
class TinyTextEncoder:
    """ports.TextEncoder: words are hashed to rows; towers side by side make width 12.

    towers: width by name, {"l": 12} or, as SDXL has it, {"l": 8, "g": 4}; with "g" the context
    also has the pooled "y" [n, 4].
    """

    towers: Mapping[str, int] = field(default_factory=lambda: {"l": TEXT_WIDTH})
    rows: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)

        def table(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        self.tables = {name: table(self.rows, width) for name, width in self.towers.items()}
        self.positions = {name: 0.1 * table(TOKENS, d) for name, d in self.towers.items()}
        self.mixers = {name: table(d, d) / d**0.5 for name, d in self.towers.items()}

    def widths(self) -> Mapping[str, int]:
        """Embedding width by tower."""
        return dict(self.towers)

    def vocabulary(self, tower: str) -> Tensor:
        """The embedding table, [rows, d]."""
        return self.tables[tower].clone()

    def word_vectors(self, word: str) -> Mapping[str, Tensor]:
        """The word's own rows by tower, [t, d]."""
        ids = self._ids(word)
        return {name: table[ids] for name, table in self.tables.items()}

    def encode(self, texts: Sequence[str]) -> Context:
        """One row per text."""
        rows = [self._finish({n: t[self._ids(x)] for n, t in self.tables.items()}) for x in texts]
        return self._stack(rows)

    def encode_with(self, vectors: Mapping[str, Tensor], template: str | Sequence[str]) -> Context:
        """Learned vectors [n, t, d] by tower in place of `{}`; gradients flow back."""
        if not isinstance(template, str):
            ones = ({k: v[i : i + 1] for k, v in vectors.items()} for i in range(len(template)))
            return joined(*map(self.encode_with, ones, template))
        before, after = template.split("{}")
        count = len(next(iter(vectors.values())))
        parts = [
            {
                name: torch.cat(
                    [table[self._ids(before)], vectors[name][i], table[self._ids(after)]]
                )
                for name, table in self.tables.items()
            }
            for i in range(count)
        ]
        return self._stack([self._finish(part) for part in parts])

    def _ids(self, text: str) -> Tensor:
        words = text.lower().split()
        return torch.tensor(
            [1 + zlib.crc32(word.encode()) % (self.rows - 1) for word in words], dtype=torch.int64
        )

    def _finish(self, embeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pad with row 0, add positions, let tokens see the mean of all: by tower [TOKENS, d]."""
        out = {}
        for name, table in self.tables.items():
            have = embeds[name][:TOKENS]
            padded = torch.cat([have, table[:1].expand(TOKENS - len(have), -1)])
            x = padded + self.positions[name]
            out[name] = torch.tanh((x + x.mean(0)) @ self.mixers[name])
        return out

    def _stack(self, rows: Sequence[Mapping[str, Tensor]]) -> Context:
        tokens = torch.stack([torch.cat([row[name] for name in self.towers], -1) for row in rows])
        extra = {"y": torch.stack([row["g"][-1] for row in rows])} if "g" in self.towers else {}
        return Context(tokens, extra)
