"""How noise rises with the timestep, and how a learning rate falls with the steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from .errors import ConfigError

Prediction = Literal["epsilon", "v", "flow"]


class Schedule(Protocol):
    """How noise rises with the timestep, and what a model is asked to predict.

    Timesteps are what the schedule counts in: the numbers of its levels, or the levels themselves.
    They grow with the noise. A share of the schedule is a number in [0, 1], 0 at its clean end.
    """

    @property
    def prediction(self) -> Prediction: ...

    def at(self, shares: Tensor) -> Tensor:
        """The timesteps at these shares of the schedule, floating [n] in [0, 1]."""
        ...

    def drawn(self, count: int, source: torch.Generator, least: float = 0.0) -> Tensor:
        """Timesteps [count], uniform over the shares from `least` to 1."""
        ...

    def ladder(self, steps: int) -> Tensor:
        """Timesteps from the noisy end down, [steps] or fewer, for `moved`."""
        ...

    def add_noise(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t [b, c, h, w] of x0 and noise, both [b, c, h, w], at timesteps [b]."""
        ...

    def target(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What a model shall predict for that x_t, [b, c, h, w]."""
        ...

    def moved(self, x: Tensor, made: Tensor, now: Tensor, then: Tensor) -> Tensor:
        """One deterministic sampling step: x at timestep `now`, for which the model predicted
        `made`, at the cleaner timestep `then`. x, made: [b, c, h, w]; now, then: one number."""
        ...


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

    def at(self, shares: Tensor) -> Tensor:
        """Timesteps int64, 0 to T - 1."""
        return (shares * len(self)).long().clamp_max(len(self) - 1)

    def drawn(self, count: int, source: torch.Generator, least: float = 0.0) -> Tensor:
        """Timesteps int64 [count], uniform over those that are left."""
        return torch.randint(int(least * len(self)), len(self), (count,), generator=source)

    def ladder(self, steps: int) -> Tensor:
        """Timesteps int64, from T - 1 to 0, no more than T."""
        return torch.linspace(len(self) - 1, 0, min(steps, len(self))).round().long()

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

    def moved(self, x: Tensor, made: Tensor, now: Tensor, then: Tensor) -> Tensor:
        """A step of DDIM (arXiv 2010.02502, eq. 12 with sigma 0)."""
        shares = self.alphas_cumprod[now], self.alphas_cumprod[then]
        a, s = float(shares[0].sqrt()), float((1 - shares[0]).sqrt())
        if self.prediction == "v":
            clean, noise = a * x - s * made, s * x + a * made
        else:
            clean, noise = (x - s * made) / a, made
        return float(shares[1].sqrt()) * clean + float((1 - shares[1]).sqrt()) * noise


@dataclass(frozen=True, slots=True)
class FlowSchedule:
    """Rectified flow (arXiv 2209.03003) with the sign that ComfyUI's samplers see: at noise level
    s, x_t = (1 - s) x0 + s noise, and the model predicts noise - x0.

    Timesteps are noise levels, float32, any in [0, most].
    shift: > 0; the level at share u is most * shift u / (1 + (shift - 1) u) (arXiv 2403.03206,
    eq. 23), so 1 is even and more than 1 leans towards the noise. most: the highest level, in
    (0, 1]. Raises ConfigError.
    """

    shift: float = 1.0
    most: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.shift < math.inf and 0 < self.most <= 1):
            raise ConfigError(
                f"flow: expected a shift above 0 and a highest noise level above 0 and at most 1, "
                f"got {self.shift!r} and {self.most!r}"
            )

    @property
    def prediction(self) -> Prediction:
        return "flow"

    def at(self, shares: Tensor) -> Tensor:
        """Noise levels float32."""
        u = shares.double()
        return (self.most * self.shift * u / (1 + (self.shift - 1) * u)).float()

    def drawn(self, count: int, source: torch.Generator, least: float = 0.0) -> Tensor:
        """Noise levels float32 [count] at shares that are uniform from `least` to 1."""
        return self.at(least + (1 - least) * torch.rand(count, generator=source))

    def ladder(self, steps: int) -> Tensor:
        """Noise levels float32 [steps] at even shares, from 1 to 1 / steps."""
        return self.at(torch.arange(steps, 0, -1) / steps)

    def add_noise(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = (1 - s) x0 + s noise; x0, noise [b, c, h, w], timesteps float32 [b]."""
        level = timesteps.to(x0).view(-1, *[1] * (x0.ndim - 1))
        return (1 - level) * x0 + level * noise

    def target(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """noise - x0, whatever the level."""
        return noise - x0

    def moved(self, x: Tensor, made: Tensor, now: Tensor, then: Tensor) -> Tensor:
        """A step of Euler's method along the flow."""
        return x + float(then - now) * made


def logit_normal(shares: Tensor, least: float = 0.0) -> Tensor:
    """Shares of a schedule, uniform [n] in [0, 1), as shares whose logit is normal (arXiv
    2403.03206, section 3.1, mean 0 and deviation 1), cut off below `least`: float64 [n]."""
    first = torch.special.ndtr(torch.tensor(least, dtype=torch.float64).logit())
    logits: Tensor = torch.special.ndtri(first + (1 - first) * shares.double())
    return logits.sigmoid()


def half_cosine(step: int, steps: int) -> float:
    """From 1 at step 1 along half a cosine to almost 0 at step `steps`, counted from 1.

    arXiv 1608.03983, eq. 5, without restarts.
    """
    return (1 + math.cos(math.pi * (step - 1) / steps)) / 2
