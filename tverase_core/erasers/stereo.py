"""STEREO: search for what brings the concept back, then erase all of it at once (arXiv 2408.16807).

Stage 1 erases as ESD does and then attacks the erased model by Concept Inversion, round after
round; what an attack finds is the next round's concept. Stage 2 starts anew from the unedited
weights and pushes all of it away, while sentences that hold the concept in a scene say what to
keep. Written from a description of the method and of what its released code computes. Ours: noised
pictures in place of partly sampled ones, deltas in place of weights, no weight decay.

Symbols: P concept prompts, R rounds, K anchors, b batch. e_0 is the unedited model's prediction
under the empty prompt, e_a under an anchor, e_j under item j of the erase set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..checks import COUNT, NOT_NEGATIVE, POSITIVE, SEED, TEMPLATE, WORD, check_settings, one_of
from ..concept_set import ConceptSet, concept_set
from ..errors import ConfigError, NonFiniteError
from ..inversion.attack import concept_inversion
from ..inversion.config import RANDOM, InversionConfig
from ..inversion.inversion_set import InversionSet
from ..inversion.space import Space
from ..model.layout import ModelLayout
from ..ports import Context, Denoiser, Progress, TextEncoder, joined, quiet
from .teaching import (
    DrawNoised,
    Lesson,
    Noised,
    Target,
    esd_keys,
    from_latents,
    one_row,
    steered,
    teach,
    towards,
    with_null,
    zero_deltas,
)


@dataclass(frozen=True, slots=True)
class StereoConfig:
    """Settings of `stereo`; raises ConfigError with every problem.

    variant: "x" trains cross-attention only, "u" everything but it. rounds: of erasing and
    attacking; the paper's is 4. The steps and rates are those of the released code. eta: how far
    stage 1 steers from the concept's own prediction; 1 ends at the empty prompt's.
    anchor_weight, negative_weight: pull of the anchors and push of the erase set in stage 2. The
    released code computes 1 and 3, though its comment reads as if 1 were meant for both.
    template: the sentence around what an attack finds, with one {}. start: the word that attacks
    start from (its authors give a coarse noun), or RANDOM. batch_size: samples a step, also of an
    attack.
    """

    variant: Literal["x", "u"] = "x"
    rounds: int = 2
    erase_steps: int = 200
    erase_learning_rate: float = 5e-6
    attack_steps: int = 3000
    attack_learning_rate: float = 5e-3
    final_steps: int = 200
    final_learning_rate: float = 2e-5
    batch_size: int = 1
    eta: float = 1.0
    anchor_weight: float = 1.0
    negative_weight: float = 3.0
    template: str = "a {}"
    start: str = RANDOM
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("rounds", "erase_steps", "attack_steps", "final_steps", "batch_size")
        rates = ("erase_learning_rate", "attack_learning_rate", "final_learning_rate")
        rules = {
            "variant": one_of("x", "u"),
            **dict.fromkeys(counts, COUNT),
            **dict.fromkeys((*rates, "eta", "negative_weight"), POSITIVE),
            "anchor_weight": NOT_NEGATIVE,
            "template": TEMPLATE,
            "start": WORD,
            "seed": SEED,
        }
        check_settings(self, rules)

    def attack(self, seed: int) -> InversionConfig:
        """Settings of one attack: one embedding of one token vector."""
        return InversionConfig(
            count=1,
            steps=self.attack_steps,
            learning_rate=self.attack_learning_rate,
            batch=self.batch_size,
            seed=seed,
            template=self.template,
            start=self.start,
        )


@dataclass(frozen=True, slots=True)
class StereoResult:
    """deltas: float32 on the CPU, TOWARDS the concept: W - 1.0 * delta is STEREO's edited weight.

    erase_losses: of stage 1, one tuple a round with one loss a step. attacks: what each round's
    attack found, with its final denoising loss. final_losses: of stage 2, one a step.
    """

    deltas: dict[str, Tensor]
    erase_losses: tuple[tuple[float, ...], ...]
    attacks: tuple[InversionSet, ...]
    final_losses: tuple[float, ...]


def slices(pictures: ConceptSet, rounds: int, generator: torch.Generator) -> list[ConceptSet]:
    """Shares of the pictures, one a round, of nearly equal size; no picture is in two.

    Shuffled, since pictures often come in the order of their prompts. Raises ConfigError when
    there are fewer pictures than rounds.
    """
    if len(pictures) < rounds:
        raise ConfigError(
            f"STEREO: each round attacks with pictures of its own, but there are "
            f"{len(pictures)} pictures for {rounds} rounds. Give {rounds} pictures or more (some "
            "for each round), or ask for fewer rounds."
        )
    order, name = torch.randperm(len(pictures), generator=generator), pictures.concept
    shares = [order[k::rounds] for k in range(rounds)]
    return [concept_set(name, pictures.latents[r], pictures.contexts_of(r)) for r in shares]


def robust_target(
    denoiser: Denoiser,
    noised: Noised,
    anchor: Context,
    erased: Context,
    null: Context,
    config: StereoConfig,
) -> Tensor:
    """e_0 + a (e_a - e_0) - n mean_j (e_j - e_0) of the denoiser as it is, [b, c, h, w].

    anchor: b rows; erased: the erase set, every row of which counts for each sample. a and n are
    the config's anchor_weight and negative_weight. arXiv 2408.16807, stage 2.
    """
    e_a, e_0 = with_null(denoiser, noised, anchor, null)
    count, away = len(erased.tokens), torch.zeros_like(e_0)
    # One item after the other: the whole set at once would take many times the batch's memory.
    for j in range(count):
        away += denoiser.predict(*noised, one_row(erased, j, len(e_0))) - e_0
    return e_0 + config.anchor_weight * (e_a - e_0) - config.negative_weight / count * away


def stereo(
    denoiser: Denoiser,
    layout: ModelLayout,
    encoder: TextEncoder,
    pictures: ConceptSet,
    concept: Context,
    anchors: Context,
    null: Context,
    config: StereoConfig | None = None,
    progress: Progress = quiet,
    *,
    draw: DrawNoised | None = None,
) -> StereoResult:
    """Train STEREO's deltas; the denoiser is left as it was, also when cancelled.

    pictures: of the concept, one a round at least. concept: P rows, prompts that name it; anchors:
    K rows, sentences that hold the concept in a scene, used equally often; null: one row, the
    empty prompt. draw: makes (x_t float32 [b, c, h, w], timesteps int64 [b]) and is called with
    the deltas off; by default noise on all the pictures. Equal seeds give equal deltas.
    `progress` counts the steps of both stages together and cancels by raising.
    Raises EmptyMaskError, ConfigError, NonFiniteError.
    """
    config = config or StereoConfig()
    counts = len(concept.tokens), len(anchors.tokens), len(null.tokens)
    if min(counts) < 1 or counts[2] != 1:
        raise ConfigError(
            f"STEREO: expected one or more concept rows, one or more anchors and one empty prompt, "
            f"got {counts[0]}, {counts[1]} and {counts[2]}"
        )
    generator = torch.Generator().manual_seed(config.seed)
    keys = tuple(esd_keys(denoiser.weight_shapes(), layout, config.variant, "STEREO"))
    with torch.inference_mode(False), torch.enable_grad():
        shares = slices(pictures, config.rounds, generator)
        _try_words(encoder, pictures.concept, config)
        noise = draw or from_latents(denoiser, pictures.latents)
        job = _Job(denoiser, encoder, keys, null, noise, config, generator, progress)
        erase_losses, attacks = job.search(concept, shares)
        erased = joined(concept, *(found.contexts(encoder) for found in attacks))
        deltas, final_losses = job.finish(erased, anchors)
    return StereoResult(deltas, erase_losses, attacks, final_losses)


def _try_words(encoder: TextEncoder, concept: str, config: StereoConfig) -> None:
    """Raises ConfigError now, not a stage later, for a start or template that does not do."""
    attack = config.attack(0)
    with torch.no_grad():
        first = Space(encoder, concept, attack).start(torch.zeros(1, dtype=torch.int64))
        encoder.encode_with(first, config.template)


def _in_turn(count: int, generator: torch.Generator) -> Iterator[int]:
    """Every number below count before any comes again, each time in a new order."""
    while True:
        yield from torch.randperm(count, generator=generator).tolist()


@dataclass(frozen=True, slots=True)
class _Job:
    denoiser: Denoiser
    encoder: TextEncoder
    keys: tuple[str, ...]
    null: Context
    draw: DrawNoised
    config: StereoConfig
    generator: torch.Generator
    progress: Progress

    def search(
        self, concept: Context, shares: list[ConceptSet]
    ) -> tuple[tuple[tuple[float, ...], ...], tuple[InversionSet, ...]]:
        """Stage 1: losses and finding of each round. The deltas go on from round to round."""
        config, student = self.config, zero_deltas(self.denoiser, self.keys)
        losses, attacks = [], list[InversionSet]()

        def target(noised: Noised, picked: Context) -> Tensor:
            return steered(self.denoiser, noised, picked, self.null, config.eta, "concept")

        for number, share in enumerate(shares):
            current = attacks[-1].contexts(self.encoder) if attacks else concept
            name = f"STEREO, round {number + 1} of {config.rounds}"
            begun = number * (config.erase_steps + config.attack_steps)
            pace = config.erase_steps, config.erase_learning_rate
            losses.append(self._taught(f"{name}, erasing", student, current, target, pace, begun))
            told = self._told(f"{name}, attack", begun + config.erase_steps)
            # Frozen, so that the attack's gradients do not gather in what is trained.
            frozen = {key: delta.detach() for key, delta in student.items()}
            attack = config.attack(int(torch.randint(2**62, (1,), generator=self.generator)))
            try:
                with self.denoiser.attached(frozen):
                    found = concept_inversion(self.denoiser, self.encoder, share, attack, told)
            except NonFiniteError as error:
                raise NonFiniteError(
                    f"{name}, attack: {error} The rate is attack_learning_rate, "
                    f"{config.attack_learning_rate:g}."
                ) from error
            attacks.append(found)
        return tuple(losses), tuple(attacks)

    def finish(
        self, erased: Context, anchors: Context
    ) -> tuple[dict[str, Tensor], tuple[float, ...]]:
        """Stage 2, from the unedited weights: deltas towards the concept, and losses."""
        config, student = self.config, zero_deltas(self.denoiser, self.keys)
        turns = _in_turn(len(anchors.tokens), self.generator)

        def target(noised: Noised, picked: Context) -> Tensor:
            rows = torch.tensor([next(turns) for _ in picked.tokens])
            anchor = anchors.pick(rows.to(anchors.tokens.device))
            return robust_target(self.denoiser, noised, anchor, erased, self.null, config)

        begun = config.rounds * (config.erase_steps + config.attack_steps)
        pace = config.final_steps, config.final_learning_rate
        losses = self._taught("STEREO, final erasing", student, erased, target, pace, begun)
        return towards(student), losses

    def _taught(
        self,
        name: str,
        student: Mapping[str, Tensor],
        contexts: Context,
        target: Target,
        pace: tuple[int, float],
        begun: int,
    ) -> tuple[float, ...]:
        """One training of the deltas; pace: steps and rate; begun: steps of all stages before."""
        # The source's decay shrinks weights by about 1e-5 in all; here it would shrink the edit.
        own = list(student.values())
        optimizer = torch.optim.AdamW(own, lr=pace[1], weight_decay=0.0, foreach=False)
        size, told = self.config.batch_size, self._told(name, begun)
        lesson = Lesson(name, contexts, self.draw, target, pace[0], size, pace[1])
        return tuple(teach(self.denoiser, student, optimizer, lesson, self.generator, told))

    def _told(self, name: str, begun: int) -> Progress:
        config = self.config
        whole = config.rounds * (config.erase_steps + config.attack_steps) + config.final_steps
        return lambda done, total, message: self.progress(begun + done, whole, f"{name}: {message}")
