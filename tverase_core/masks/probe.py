"""Denoising losses and predictions at fixed noise: what can be known without drawing a picture.

Symbols: k probes, n contexts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError, EmptyConceptSetError
from ..ports import Context, Denoiser
from ..schedule import Schedule


@dataclass(frozen=True, slots=True)
class DenoiseProbe:
    """k noised latents, the same for every question asked of them.

    latents, noise: float32 [k, c, h, w]; timesteps: [k].
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor

    @classmethod
    def draw(cls, latents: Tensor, schedule: Schedule, count: int, seed: int) -> DenoiseProbe:
        """`count` probes over the given latents [j, c, h, w], repeated in turn when count > j.

        Timesteps are spread evenly over the middle 80 % of the schedule: at either end a context
        hardly matters. Raises EmptyConceptSetError, ConfigError.
        """
        if len(latents) < 1:
            raise EmptyConceptSetError("denoising probe: expected one or more latents, got none")
        if count < 1:
            raise ConfigError(f"denoising probe: expected one or more probes, got {count}")
        generator = torch.Generator().manual_seed(seed)
        picked = latents.detach()[torch.arange(count, device=latents.device) % len(latents)]
        noise = torch.randn(picked.shape, generator=generator).to(picked.device)
        shares = 0.1 + 0.8 * (torch.arange(count, dtype=torch.float64) + 0.5) / count
        times = schedule.at(shares)[torch.randperm(count, generator=generator)]
        return cls(picked.float(), noise, times.to(picked.device))

    def predictions(self, denoiser: Denoiser, context: Context) -> Tensor:
        """Native predictions under every context row, float32 [n, k, c, h, w]."""
        schedule, place = denoiser.schedule, denoiser.device
        latents, noise = self.latents.to(place), self.noise.to(place)
        times = self.timesteps.to(place)
        noised = schedule.add_noise(latents, noise, times)
        made = []
        with torch.no_grad():
            for row in range(len(context.tokens)):
                rows = torch.full((len(times),), row, device=context.tokens.device)
                made.append(denoiser.predict(noised, times, context.pick(rows)))
        return torch.stack(made)

    def losses(self, denoiser: Denoiser, context: Context) -> Tensor:
        """Mean squared denoising error under every context row, float64 [n] on the CPU."""
        place = denoiser.device
        target = denoiser.schedule.target(
            self.latents.to(place), self.noise.to(place), self.timesteps.to(place)
        )
        errors = self.predictions(denoiser, context) - target
        return errors.double().square().flatten(1).mean(1).cpu()
