"""Planted curves, and a linear denoiser whose blocks do known things."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from tverase_core.model.layout import ModelLayout, detect_layout
from tverase_core.ports import Context
from tverase_core.schedule import NoiseSchedule

Curve = Callable[[float], float]


def falling(middle: float, width: float = 0.05, top: float = 0.95) -> Curve:
    """A rate that falls from `top` to 0 around strength `middle`."""
    return lambda alpha: top / (1 + math.exp(min(500.0, (alpha - middle) / width)))


class Planted:
    """A measurement drawn from known rates. Independent noise at every strength unless `coupled`
    (then one uniform number a seed, so that hits are monotone in the strength)."""

    def __init__(
        self,
        triggers: Sequence[Curve],
        retained: Sequence[Curve],
        coupled: bool = False,
        collapse_from: float = math.inf,
        salt: int = 0,
    ):
        self.triggers, self.retained = triggers, retained
        self.coupled, self.collapse_from, self.salt = coupled, collapse_from, salt
        self.seen: set[tuple[str, float, int, int]] = set()

    @property
    def trigger_count(self) -> int:
        return len(self.triggers)

    @property
    def prompt_count(self) -> int:
        return len(self.retained)

    @property
    def images_drawn(self) -> int:
        return len(self.seen)

    def trigger_hits(self, strength: float, cells: Sequence[tuple[int, int]]) -> list[bool]:
        return self._hits("trigger", self.triggers, strength, cells)

    def retained_hits(self, strength: float, cells: Sequence[tuple[int, int]]) -> list[bool]:
        return self._hits("retained", self.retained, strength, cells)

    def collapse(self, strength: float) -> str | None:
        return "noise" if strength >= self.collapse_from else None

    def _hits(
        self, role: str, curves: Sequence[Curve], strength: float, cells: Sequence[tuple[int, int]]
    ) -> list[bool]:
        hits = []
        for row, seed in cells:
            self.seen.add((role, strength, row, seed))
            at = 0 if self.coupled else round(1000 * strength)
            key = f"{self.salt},{role},{at},{row},{seed}"
            uniform = int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48
            hits.append(uniform < curves[row](strength))
        return hits


def schedule(length: int = 20) -> NoiseSchedule:
    betas = torch.linspace(0.01, 0.2, length, dtype=torch.float64)
    return NoiseSchedule((1 - betas).cumprod(0), "epsilon")


@dataclass
class Scale:
    scale: float = 1.0


WIDTH, CHANNELS = 4, 4
CROSS = "diffusion_model.{}.1.transformer_blocks.0.attn2.to_v.weight"
KEYS = {
    "diffusion_model.input_blocks.1.0.in_layers.2.weight": (CHANNELS, CHANNELS),
    CROSS.format("input_blocks.1"): (CHANNELS, WIDTH),
    CROSS.format("middle_block"): (CHANNELS, WIDTH),
    CROSS.format("output_blocks.1"): (CHANNELS, WIDTH),
}
CONV, IN, MIDDLE, OUT = KEYS


class LinearDenoiser:
    """prediction = mix of the channels + the sum of each cross matrix times the mean token."""

    device = torch.device("cpu")

    def __init__(self, seed: int = 0):
        source = torch.Generator().manual_seed(seed)
        self.schedule = schedule()
        self.base = {k: 0.3 * torch.randn(s, generator=source) for k, s in KEYS.items()}
        self._attached: list[tuple[Mapping[str, Tensor], Scale]] = []

    def layout(self) -> ModelLayout:
        return detect_layout(self.base)

    def weight_shapes(self) -> Mapping[str, torch.Size]:
        return {k: v.shape for k, v in self.base.items()}

    @contextmanager
    def attached(self, deltas: Mapping[str, Tensor]) -> Iterator[Scale]:
        handle = Scale()
        self._attached.append((deltas, handle))
        try:
            yield handle
        finally:
            self._attached.pop()

    def _weight(self, key: str) -> Tensor:
        acting = [(d[key], h.scale) for d, h in self._attached if key in d and h.scale]
        return self.base[key] + sum(scale * delta for delta, scale in acting)

    def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        assert len(x_t) == len(timesteps) == len(context.tokens)
        mean = context.tokens.mean(1)  # [b, d]
        shift = sum(mean @ self._weight(key).mT for key in (IN, MIDDLE, OUT))
        mixed = torch.einsum("oc,bchw->bohw", self._weight(CONV), x_t)
        return mixed + shift[:, :, None, None]


def one_hot(*axes: int) -> Context:
    """One row an axis; every token of a row is the unit vector along it (-1: zeros)."""
    rows = torch.zeros(len(axes), 2, WIDTH)
    for i, axis in enumerate(axes):
        if axis >= 0:
            rows[i, :, axis] = 1.0
    return Context(rows)


def latents(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, CHANNELS, 2, 2, generator=torch.Generator().manual_seed(seed))
