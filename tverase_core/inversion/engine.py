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
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..concept_set import ConceptSet
from ..errors import ConfigError, NonFiniteError
from ..ports import Context, Denoiser, Progress, TextEncoder
from ..storage.training_state import TrainingState
from .config import InversionConfig
from .cosines import spread_penalty
from .inversion_set import InversionSet, encoder_digest
from .space import Space


def invert(
    denoiser: Denoiser,
    encoder: TextEncoder,
    pictures: ConceptSet,
    config: InversionConfig,
    progress: Progress,
    *,
    seeds: Tensor | None = None,
    fixed: Mapping[str, Tensor] | None = None,
    state: TrainingState | None = None,
    on_checkpoint: Callable[[TrainingState], None] | None = None,
    checkpoint_every: int = 50,
) -> InversionSet:
    """Find `config.count` embeddings under which the denoiser explains the concept's pictures.

    Loss of inversion k: mean (prediction - target)^2 in the native prediction over its own draws,
    plus diversity * spread penalty (cosines.py), averaged over towers. Losses are summed, not
    averaged, over k: without diversity an inversion goes the same way alone as in company. The
    optimizer is AdamW (arXiv 1711.05101). The set is not validated: every embedding counts as
    valid; its losses are all on the same draws.

    seeds: int64 [n], distinct, else derived from config.seed. fixed: by tower [m, t, d], others to
    stay away from. state: go on from there; the result is the same bits as without the break.
    on_checkpoint hears the state every `checkpoint_every` steps (0: at the end alone), its losses
    float32 [step, n]. `progress` is called before each forward pass and cancels by raising; nothing
    but the checkpoints remains.
    Raises NonFiniteError naming step and inversion, ConfigError for a state of other size.
    """
    own = own_seeds(config) if seeds is None else seeds
    with torch.inference_mode(False), torch.enable_grad():
        space = Space(encoder, pictures.concept, config)
        engine = _Engine(denoiser, encoder, pictures, config, progress, own, fixed or {})
        vectors = {tower: value.requires_grad_() for tower, value in space.start(own).items()}
        own_decay = config.weight_decay
        optimizer = torch.optim.AdamW(list(vectors.values()), weight_decay=own_decay, foreach=False)
        done, history = 0, torch.zeros(0, config.count)
        if state:
            done, history = state.step, state.losses
            _check_state(state, config)
            state.restore(vectors, optimizer)
        for step in range(done + 1, config.steps + 1):
            history = torch.cat([history, engine.losses(vectors, step)[None]])
            _move(vectors, optimizer, config.rate(step), space)
            due = step == config.steps or step % (checkpoint_every or config.steps) == 0
            if on_checkpoint and due:
                on_checkpoint(TrainingState.of(step, vectors, optimizer, history))
        final = {tower: value.detach() for tower, value in vectors.items()}
        losses = engine.final_losses(final)
    progress(config.steps, config.steps, f"{config.count} inversions, {losses.mean():.4f}")
    return InversionSet(
        vectors=final,
        losses=losses,
        seeds=own,
        valid=torch.ones(config.count, dtype=torch.bool),
        concept=pictures.concept,
        template=config.template,
        text_encoder=encoder_digest(encoder),
        objective=objective_of(config, pictures),
    )


def objective_of(config: InversionConfig, pictures: ConceptSet) -> dict[str, Any]:
    """What an inversion set says of its making, ready for JSON."""
    return {**config.recipe(), "concept_set": pictures.digest}


@torch.no_grad()
def _move(
    vectors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, rate: float, space: Space
) -> None:
    """The optimizer's step at this rate, then back into the allowed space."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()
    for tower, held in space.hold(vectors).items():
        vectors[tower].copy_(held)


def _check_state(state: TrainingState, config: InversionConfig) -> None:
    counts = {len(value) for value in state.learned.values()}
    if counts != {config.count} or state.step > config.steps:
        raise ConfigError(
            f"This state holds {max(counts)} inversions at step {state.step}; the settings ask for "
            f"{config.count} in {config.steps} steps. Start anew, or match them."
        )


def own_seeds(config: InversionConfig, generation: int = 0) -> Tensor:
    """One distinct seed an inversion, int64 [n]; each generation has new ones."""
    start = 1000 * generation
    return torch.tensor([_mix(config.seed, "own", start + k) for k in range(config.count)])


def _mix(seed: int, *words: object) -> int:
    # The CPU generator keeps 32 bits of a seed, so neighbours must differ in those.
    text = "/".join(map(str, (seed, *words)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _parts(count: int, size: int) -> list[Tensor]:
    return [torch.arange(k, min(k + size, count)) for k in range(0, count, size)]


@dataclass(frozen=True, slots=True)
class _Draws:
    """Noise draws of k inversions, b each: rows int64 and timesteps [k, b], noise [k, b, ...].

    sentences: which one each picture is shown under, int64 [k, b]; None: the template.
    """

    rows: Tensor
    timesteps: Tensor
    noise: Tensor
    sentences: Tensor | None = None

    def some(self, piece: Tensor) -> _Draws:
        """Of each inversion only these draws, int64 [p]."""
        told = None if self.sentences is None else self.sentences[:, piece]
        return _Draws(self.rows[:, piece], self.timesteps[:, piece], self.noise[:, piece], told)


@dataclass(frozen=True, slots=True)
class _Engine:
    denoiser: Denoiser
    encoder: TextEncoder
    pictures: ConceptSet
    config: InversionConfig
    progress: Progress
    seeds: Tensor
    fixed: Mapping[str, Tensor]

    def losses(self, vectors: Mapping[str, Tensor], step: int) -> Tensor:
        """Of each inversion, float32 [n]; adds their gradients to the vectors."""
        config, losses = self.config, list[Tensor]()
        for part in _parts(config.count, config.chunk or config.count):
            draws = self._draws(self.seeds[part], config.batch, f"step {step}")
            total = torch.zeros(len(part))
            for piece in _parts(config.batch, config.draws_at_once or config.batch):
                self.progress(step - 1, config.steps, f"step {step} of {config.steps}")
                share = len(piece) / config.batch
                mine = {k: v[part] for k, v in vectors.items()}
                loss = self._loss(mine, draws.some(piece)) * share
                self._check(loss, part, step)
                torch.autograd.backward(loss.sum())
                total += loss.detach().cpu()
            losses.append(total)
        if config.diversity:
            torch.autograd.backward(config.diversity * self._spread(vectors).sum())
        return torch.cat(losses)

    @torch.no_grad()
    def final_losses(self, found: Mapping[str, Tensor]) -> Tensor:
        """Denoising loss of each inversion on draws that all share, float32 [n]."""
        config = self.config
        draws = self._draws(self.seeds[:1] * 0, config.judged_draws, "final")
        at_once = config.draws_at_once or config.batch
        pieces = _parts(config.judged_draws, at_once * (config.chunk or config.count))
        losses = torch.zeros(config.count)
        for k in range(config.count):
            self.progress(config.steps, config.steps, f"measuring inversion {k + 1}")
            vectors = {tower: value[k : k + 1] for tower, value in found.items()}
            for piece in pieces:
                loss = self._loss(vectors, replace(draws.some(piece), sentences=None))
                losses[k] += float(loss) * len(piece) / config.judged_draws
        return losses

    def _draws(self, seeds: Tensor, count: int, purpose: str) -> _Draws:
        """Timesteps lie in `count` equal strata: uniform on average, with less spread."""
        shape = self.pictures.latents.shape[1:]
        made: list[tuple[Tensor, ...]] = []
        for seed in seeds.tolist():
            source = torch.Generator().manual_seed(_mix(seed, purpose))
            rows = torch.randint(len(self.pictures), (count,), generator=source)
            spot = (torch.arange(count) + torch.rand(count, generator=source)) / count
            noise = torch.randn(count, *shape, generator=source)
            told = torch.randint(max(1, len(self.config.sentences)), (count,), generator=source)
            made.append((rows, self.denoiser.schedule.at(spot), noise, told))
        rows, timesteps, noise, told = (torch.stack(column) for column in zip(*made, strict=True))
        return _Draws(rows, timesteps, noise, told if self.config.sentences else None)

    def _loss(self, vectors: Mapping[str, Tensor], draws: _Draws) -> Tensor:
        """Mean squared error of each inversion, [k]."""
        device, schedule = self.denoiser.device, self.denoiser.schedule
        count = len(draws.rows)
        x0 = self.pictures.latents[draws.rows.flatten()]
        noise, timesteps = draws.noise.flatten(0, 1), draws.timesteps.flatten()
        x_t, target = (make(x0, noise, timesteps) for make in (schedule.add_noise, schedule.target))
        context = self._contexts(vectors, draws).to(device)
        predicted = self.denoiser.predict(x_t.to(device), timesteps.to(device), context)
        error = (predicted.float() - target.to(device)).square()
        return error.reshape(count, -1).mean(1)

    def _contexts(self, vectors: Mapping[str, Tensor], draws: _Draws) -> Context:
        """One row a draw, [k * b]: each inversion in the sentences of its draws."""
        count, each = draws.rows.shape
        owners = torch.arange(count).repeat_interleave(each)
        if draws.sentences is None:
            encoded = self.encoder.encode_with(vectors, self.config.template)
            return encoded.pick(owners.to(encoded.tokens.device))
        told = [self.config.sentences[k] for k in draws.sentences.flatten().tolist()]
        return self.encoder.encode_with({t: value[owners] for t, value in vectors.items()}, told)

    def _spread(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """[n], averaged over towers."""
        bounds = self.config.cosine_floor, self.config.cosine_cap
        parts = [
            spread_penalty(value, self.fixed.get(tower, value[:0]), *bounds)
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
