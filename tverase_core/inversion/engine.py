"""One engine for every inversion: n embeddings optimised in one batch, nothing else moves.

Known (arXiv 2404.03631 and the methods it builds on, arXiv 2208.01618 and 2308.01508): token
embeddings are optimised through the frozen text encoder and the frozen diffusion model on pictures
of the concept with the plain denoising loss; the set is pushed apart by constraints on cosines;
figure 1 shows triggers in intervals of similarity. No code of that search is public.
Our derivation: all n in one batch, the hinge form of the penalty, the projection that holds the
intervals, norms at the vocabulary's median, timesteps in strata, and every default.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..concept_set import ConceptSet
from ..errors import ConfigError, NonFiniteError
from ..ports import Denoiser, Progress, TextEncoder
from ..rate_schedule import half_cosine
from .config import InversionConfig
from .cosines import closeness_penalty
from .space import Space

BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True, slots=True)
class InversionState:
    """All that is needed to go on: by tower float32 [n, t, d] vectors and Adam's two moments.

    step: steps done. seeds: int64 [n], one an inversion. history: float32 [step, n], the loss of
    each inversion in each step.
    """

    vectors: Mapping[str, Tensor]
    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]
    step: int
    seeds: Tensor
    history: Tensor


@dataclass(frozen=True, slots=True)
class Inverted:
    """vectors: by tower float32 [n, t, d]; losses: float32 [n], all on the same fixed draws."""

    vectors: Mapping[str, Tensor]
    losses: Tensor
    seeds: Tensor
    history: Tensor


def invert(
    denoiser: Denoiser,
    encoder: TextEncoder,
    pictures: ConceptSet,
    config: InversionConfig,
    progress: Progress,
    *,
    seeds: Tensor | None = None,
    fixed: Mapping[str, Tensor] | None = None,
    state: InversionState | None = None,
    on_checkpoint: Callable[[InversionState], None] | None = None,
    checkpoint_every: int = 50,
) -> Inverted:
    """Find `config.count` embeddings under which the denoiser explains the concept's pictures.

    Loss of inversion k: mean (prediction - target)^2 in the native prediction over its own draws,
    plus diversity * closeness (cosines.py), averaged over towers. Losses are summed, not averaged,
    over k: without diversity an inversion goes the same way alone as in company.

    seeds: int64 [n], else derived from config.seed. fixed: by tower [m, t, d], others to stay away
    from. state: go on from there; the result is the same bits as without the break. on_checkpoint
    hears the state every `checkpoint_every` steps (0: at the end alone). `progress` is
    called before each forward pass and cancels by raising; nothing but the checkpoints remains.
    Raises NonFiniteError naming step and inversion, ConfigError for a state of other size.
    """
    with torch.inference_mode(False), torch.enable_grad():
        space = Space(encoder, pictures.concept, config)
        engine = _Engine(denoiser, encoder, pictures, config, progress, space, fixed or {})
        now = state or begin(space, config, own_seeds(config) if seeds is None else seeds)
        if len(now.seeds) != config.count or now.step > config.steps:
            raise ConfigError(
                f"This state holds {len(now.seeds)} inversions at step {now.step}; the settings "
                f"ask for {config.count} in {config.steps} steps. Start anew, or match them."
            )
        while now.step < config.steps:
            now = engine.advance(now)
            due = now.step == config.steps or now.step % (checkpoint_every or config.steps) == 0
            if on_checkpoint and due:
                on_checkpoint(now)
        losses = engine.final_losses(now)
    progress(config.steps, config.steps, f"{config.count} inversions, {losses.mean():.4f}")
    return Inverted(now.vectors, losses, now.seeds, now.history)


def own_seeds(config: InversionConfig, generation: int = 0) -> Tensor:
    """One distinct seed an inversion, int64 [n]; each generation has new ones."""
    start = 1000 * generation
    return torch.tensor([_mix(config.seed, "own", start + k) for k in range(config.count)])


def begin(space: Space, config: InversionConfig, seeds: Tensor) -> InversionState:
    """The state before the first step."""
    vectors = space.start(seeds)
    zeros = {tower: torch.zeros_like(value) for tower, value in vectors.items()}
    return InversionState(vectors, zeros, zeros, 0, seeds, torch.zeros(0, config.count))


def _mix(seed: int, *words: object) -> int:
    # The CPU generator keeps 32 bits of a seed, so neighbours must differ in those.
    text = "/".join(map(str, (seed, *words)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _parts(count: int, size: int) -> list[Tensor]:
    return [torch.arange(k, min(k + size, count)) for k in range(0, count, size)]


@dataclass(frozen=True, slots=True)
class _Draws:
    """Noise draws of k inversions, b each: rows and timesteps int64 [k, b], noise [k, b, ...]."""

    rows: Tensor
    timesteps: Tensor
    noise: Tensor


@dataclass(frozen=True, slots=True)
class _Engine:
    denoiser: Denoiser
    encoder: TextEncoder
    pictures: ConceptSet
    config: InversionConfig
    progress: Progress
    space: Space
    fixed: Mapping[str, Tensor]

    def advance(self, now: InversionState) -> InversionState:
        """One step down the loss, then back into the allowed space."""
        config, step = self.config, now.step + 1
        vectors = {k: v.clone().requires_grad_() for k, v in now.vectors.items()}
        losses = []
        for part in _parts(config.count, config.chunk or config.count):
            self.progress(now.step, config.steps, f"step {step} of {config.steps}")
            draws = self._draws(now.seeds[part], config.batch, f"step {step}")
            loss = self._loss({k: v[part] for k, v in vectors.items()}, draws)
            self._check(loss, part, step)
            torch.autograd.backward(loss.sum())
            losses.append(loss.detach().cpu())
        if config.diversity:
            torch.autograd.backward(config.diversity * self._closeness(vectors).sum())
        moved, first, second = self._adam(now, vectors, step)
        history = torch.cat([now.history, torch.cat(losses)[None]])
        held = self.space.hold(moved)
        return InversionState(held, first, second, step, now.seeds, history)

    def _adam(
        self, now: InversionState, vectors: Mapping[str, Tensor], step: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """arXiv 1412.6980, algorithm 1: the moved vectors and both moments."""
        config = self.config
        fall = half_cosine(step, config.steps)
        rate = config.learning_rate * (config.final_rate + (1 - config.final_rate) * fall)
        moved, first, second = {}, {}, {}
        for tower, value in vectors.items():
            gradient = torch.zeros_like(value) if value.grad is None else value.grad
            first[tower] = now.first[tower].lerp(gradient, 1 - BETAS[0])
            second[tower] = now.second[tower].lerp(gradient.square(), 1 - BETAS[1])
            slope = first[tower] / (1 - BETAS[0] ** step)
            spread = (second[tower] / (1 - BETAS[1] ** step)).sqrt()
            moved[tower] = value.detach() - rate * slope / (spread + EPSILON)
        return moved, first, second

    @torch.no_grad()
    def final_losses(self, now: InversionState) -> Tensor:
        """Denoising loss of each inversion on draws that all share, float32 [n]."""
        config = self.config
        draws = self._draws(now.seeds[:1] * 0, config.judged_draws, "final")
        pieces = _parts(config.judged_draws, config.batch * (config.chunk or config.count))
        losses = torch.zeros(config.count)
        for k in range(config.count):
            self.progress(config.steps, config.steps, f"measuring inversion {k + 1}")
            vectors = {tower: value[k : k + 1] for tower, value in now.vectors.items()}
            for piece in pieces:
                some = _Draws(
                    draws.rows[:, piece], draws.timesteps[:, piece], draws.noise[:, piece]
                )
                losses[k] += float(self._loss(vectors, some)) * len(piece) / config.judged_draws
        return losses

    def _draws(self, seeds: Tensor, count: int, purpose: str) -> _Draws:
        """Timesteps lie in `count` equal strata: uniform on average, with less spread."""
        shape = self.pictures.latents.shape[1:]
        made: list[tuple[Tensor, Tensor, Tensor]] = []
        for seed in seeds.tolist():
            if self.config.shared_draws and made:
                made.append(made[0])
                continue
            chosen = self.config.seed if self.config.shared_draws else seed
            source = torch.Generator().manual_seed(_mix(chosen, purpose))
            rows = torch.randint(len(self.pictures), (count,), generator=source)
            spot = (torch.arange(count) + torch.rand(count, generator=source)) / count
            noise = torch.randn(count, *shape, generator=source)
            length = len(self.denoiser.schedule)
            made.append((rows, (spot * length).long().clamp_max(length - 1), noise))
        rows, timesteps, noise = (torch.stack(column) for column in zip(*made, strict=True))
        return _Draws(rows, timesteps, noise)

    def _loss(self, vectors: Mapping[str, Tensor], draws: _Draws) -> Tensor:
        """Mean squared error of each inversion, [k]."""
        device, schedule = self.denoiser.device, self.denoiser.schedule
        count, each = draws.rows.shape
        x0 = self.pictures.latents[draws.rows.flatten()]
        noise, timesteps = draws.noise.flatten(0, 1), draws.timesteps.flatten()
        x_t, target = (make(x0, noise, timesteps) for make in (schedule.add_noise, schedule.target))
        encoded = self.encoder.encode_with(vectors, self.config.template)
        rows = torch.arange(count, device=device).repeat_interleave(each)
        context = encoded.to(device).pick(rows)
        predicted = self.denoiser.predict(x_t.to(device), timesteps.to(device), context)
        error = (predicted.float() - target.to(device)).square()
        return error.reshape(count, -1).mean(1)

    def _closeness(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """[n], averaged over towers."""
        parts = [
            closeness_penalty(value, self.fixed.get(tower, value[:0]), self.config.cosine_cap)
            for tower, value in vectors.items()
        ]
        return torch.stack(parts).mean(0)

    def _check(self, loss: Tensor, part: Tensor, step: int) -> None:
        bad = part[~torch.isfinite(loss.detach().cpu())].tolist()
        if bad:
            raise NonFiniteError(
                f"Inversion: the loss of number {bad[0]} is NaN or infinite at step {step} of "
                f"{self.config.steps}. Lower the learning rate, or compute in float32."
            )
