"""A class-conditional denoiser of digits' latents, with the core's port.

A residual network over the 64 numbers of a latent: to Stable Diffusion's names, a transformer whose
picture is one token and whose prompt is one token. Attention over one token gives that token's
value, so of `attn2` only `to_v` is there; `ff` is a GEGLU (arXiv 2002.05202). The names make the
core's layouts, masks and erasers place every weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tverase_core.ports import Context
from tverase_core.schedule import NoiseSchedule

from .digits import LATENT

WIDTH, BLOCKS, TIME, CLASS = 192, 3, 64, 4
STEPS = 1000
Listener = Callable[[str, Tensor], None]


def cosine_schedule(steps: int = STEPS) -> NoiseSchedule:
    """The squared cosine of arXiv 2102.09672, eq. 17, predicting v."""
    spot = torch.arange(steps + 1, dtype=torch.float64) / steps
    falling = torch.cos((spot + 0.008) / 1.008 * math.pi / 2) ** 2
    table = falling[1:] / falling[0]
    return NoiseSchedule(table, "v")


def block_name(number: int) -> str:
    """Where the transformer block of that number, from 1, is."""
    return f"input_blocks.{number}.1.transformer_blocks.0"


def random_weights(seed: int) -> dict[str, Tensor]:
    """Weights before any training. The last layers are zero, so that training starts calmly."""
    source = torch.Generator().manual_seed(seed)
    size = math.prod(LATENT)
    weights: dict[str, Tensor] = {}

    def linear(name: str, out: int, into: int, scale: float = 1.0, bias: bool = True) -> None:
        weights[f"{name}.weight"] = torch.randn(out, into, generator=source) * scale / into**0.5
        if bias:
            weights[f"{name}.bias"] = torch.zeros(out)

    def norm(name: str) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = torch.ones(WIDTH), torch.zeros(WIDTH)

    linear("time_embed.0", TIME, TIME)
    linear("time_embed.2", TIME, TIME)
    linear("input_blocks.0.0", WIDTH, size)
    for number in range(1, BLOCKS + 1):
        block = block_name(number)
        linear(f"input_blocks.{number}.0.emb_layers.1", WIDTH, TIME)
        norm(f"{block}.norm3")
        linear(f"{block}.attn2.to_v", WIDTH, CLASS, bias=False)
        linear(f"{block}.ff.net.0.proj", 2 * WIDTH, WIDTH)
        linear(f"{block}.ff.net.2", WIDTH, WIDTH, scale=0.0)
    norm("out.0")
    linear("out.2", size, WIDTH, scale=0.0)
    return {f"diffusion_model.{name}": value for name, value in weights.items()}


@dataclass(eq=False)  # one is told from another by being itself
class _Attachment:
    deltas: Mapping[str, Tensor]
    scale: float = 1.0
    hooked: bool = False


class DigitDenoiser:
    """ports.Denoiser over given weights, which it never writes.

    listener: hears (weight key, its input [b, width]) of each feed-forward block's last layer.
    """

    def __init__(self, weights: Mapping[str, Tensor]):
        self.schedule = cosine_schedule()
        self.device = torch.device("cpu")
        self.weights = dict(weights)
        self.listener: Listener | None = None
        self._attached: list[_Attachment] = []
        frequencies = torch.exp(-math.log(STEPS) * torch.arange(TIME // 2) / (TIME // 2))
        angles = torch.arange(STEPS)[:, None] * frequencies
        self._waves = torch.cat([angles.sin(), angles.cos()], 1)

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

    def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        """v, [b, 1, 8, 8]; context: tokens [b, 1, 4]."""
        time = functional.silu(self._linear("time_embed.0", self._waves[timesteps]))
        time = functional.silu(self._linear("time_embed.2", time))
        h = self._linear("input_blocks.0.0", x_t.flatten(1))
        for number in range(1, BLOCKS + 1):
            block = block_name(number)
            seen = self._norm(f"{block}.norm3", h)
            seen = seen + self._linear(f"input_blocks.{number}.0.emb_layers.1", time)
            seen = seen + self._linear(f"{block}.attn2.to_v", context.tokens[:, 0])
            value, gate = self._linear(f"{block}.ff.net.0.proj", seen).chunk(2, 1)
            inside = value * functional.gelu(gate)
            if self.listener:
                self.listener(f"diffusion_model.{block}.ff.net.2.weight", inside)
            h = h + self._linear(f"{block}.ff.net.2", inside)
        return self._linear("out.2", functional.silu(self._norm("out.0", h))).view_as(x_t)

    def _weight(self, name: str) -> Tensor | None:
        key = f"diffusion_model.{name}"
        weight = self.weights.get(key)
        for attachment in self._attached:
            if weight is not None and key in attachment.deltas and attachment.scale:
                weight = weight + attachment.scale * attachment.deltas[key]
        return weight

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight = self._weight(f"{name}.weight")
        assert weight is not None
        return functional.linear(x, weight, self._weight(f"{name}.bias"))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        scale, shift = (self._weight(f"{name}.{part}") for part in ("weight", "bias"))
        return functional.layer_norm(x, (WIDTH,), scale, shift)
