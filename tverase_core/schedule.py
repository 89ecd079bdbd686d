"""How noise rises with the timestep, and how a learning rate falls with the steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .errors import ConfigError

Prediction = Literal["epsilon", "v"]


@dataclass(frozen=True, slots=True)
class NoiseSchedule:
    """Forward diffusion, variance-preserving: how much noise each timestep adds, and what a model
    is asked to predict.

    alphas_cumprod: float64 [T], strictly decreasing, in [0, 1]; T comes from the model. 0 is a
    last step of pure noise (zero terminal SNR, arXiv 2305.08891).
    prediction: "epsilon" (arXiv 2006.11239, eq. 14) or "v" (arXiv 2202.00512, appendix D).
    Raises ConfigError when the table or the name is not of that form.
    """

    alphas_cumprod: Tensor
    prediction: Prediction

    def __post_init__(self) -> None:
        table = self.alphas_cumprod
        if table.ndim != 1 or len(table) < 1 or table.dtype != torch.float64:
            raise ConfigError(
                f"alphas_cumprod: expected float64 [T], got {table.dtype} {tuple(table.shape)}"
            )
        if not bool(((table >= 0) & (table <= 1)).all()) or bool((table.diff() >= 0).any()):
            raise ConfigError("alphas_cumprod must lie in 0..1 and fall strictly")
        if self.prediction not in ("epsilon", "v"):
            raise ConfigError(f"prediction: expected 'epsilon' or 'v', got {self.prediction!r}")

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def _signal_and_noise(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        picked = self.alphas_cumprod.to(timesteps.device)[timesteps]
        picked = picked.view(-1, *[1] * (like.ndim - 1))
        return picked.sqrt().to(like), (1 - picked).sqrt().to(like)

    def add_noise(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = sqrt(a_t) x0 + sqrt(1 - a_t) noise; x0, noise [b, c, h, w], timesteps int64 [b]."""
        signal, sigma = self._signal_and_noise(timesteps, x0)
        return signal * x0 + sigma * noise

    def target(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What to predict, [b, c, h, w]: noise, or v = sqrt(a) noise - sqrt(1 - a) x0."""
        if self.prediction == "epsilon":
            return noise
        signal, sigma = self._signal_and_noise(timesteps, x0)
        return signal * noise - sigma * x0


def half_cosine(step: int, steps: int) -> float:
    """From 1 at step 1 along half a cosine to almost 0 at step `steps`, counted from 1.

    arXiv 1608.03983, eq. 5, without restarts.
    """
    return (1 + math.cos(math.pi * (step - 1) / steps)) / 2
