"""STEREO: search for what brings the concept back, then erase all of it at once (arXiv 2408.16807).

Stage 1 erases as ESD does and then attacks the erased model by Concept Inversion, round after
round; what an attack finds is the next round's concept, and the model erased before its teacher.
Stage 2 starts anew from the unedited weights and pushes all of it away, while sentences that hold
the concept in a scene say what to keep. Written from a description of the method and of what its
released code computes. Ours: deltas in place of weights, and no decay of them.

Symbols: P concept prompts, R rounds, K anchors, b batch. e_0 is the unedited model's prediction
under the empty prompt, e_a under an anchor, e_j under item j of the erase set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..concept_set import ConceptSet, concept_set
from ..errors import ConfigError, NonFiniteError
from ..inversion.attack import check_words, concept_inversion
from ..inversion.inversion_set import InversionSet
from ..model.layout import ModelLayout
from ..ports import Context, Denoiser, Progress, TextEncoder, joined, quiet
from .stereo_config import StereoConfig
from .teaching import (
    DrawNoised,
    Lesson,
    Noised,
    Target,
    esd_keys,
    from_sampling,
    in_turn,
    one_row,
    teach,
    towards,
    with_null,
    zero_deltas,
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
    empty prompt. draw: makes (x_t float32 [b, c, h, w], timesteps int64 [b]) for the batch's texts,
    b rows, with the deltas at work; by default the model in training samples them, at CFG 3.
    Equal seeds give equal deltas.
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
        check_words(encoder, pictures.concept, config.attack(0))
        noised = draw or from_sampling(denoiser, null, pictures.latents.shape[1:])
        job = _Job(denoiser, encoder, keys, null, noised, config, generator, progress)
        erase_losses, attacks = job.search(concept, shares)
        used = attacks[: config.attacks_used]
        erased = joined(concept, *(found.contexts(encoder) for found in used))
        deltas, final_losses = job.finish(erased, anchors)
    return StereoResult(deltas, erase_losses, attacks, final_losses)


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
        self, concept: Context, shares: Sequence[ConceptSet]
    ) -> tuple[tuple[tuple[float, ...], ...], tuple[InversionSet, ...]]:
        """Stage 1: losses and finding of each round. The deltas go on from round to round."""
        config, losses, attacks = self.config, list[tuple[float, ...]](), list[InversionSet]()
        erased: dict[str, Tensor] = {}  # what the rounds before have learned: the teacher has it

        for number, share in enumerate(shares):
            current = attacks[-1].contexts(self.encoder) if attacks else concept
            name = f"STEREO, round {number + 1} of {config.rounds}"
            begun = number * (config.erase_steps + config.attack_steps)
            pace = config.erase_steps, config.erase_learning_rate
            student = zero_deltas(self.denoiser, self.keys)
            lesson = self._lesson(f"{name}, erasing", current, self._away_from(current), pace)
            with self.denoiser.attached(erased):
                losses.append(self._taught(lesson, student, begun))
            # Detached, so that the attack's gradients do not gather in what is trained.
            erased = {k: v.detach() + erased.get(k, 0.0) for k, v in student.items()}
            attacks.append(self._attacked(name, share, erased, begun + config.erase_steps))
        return tuple(losses), tuple(attacks)

    def _away_from(self, current: Context) -> Target:
        """Stage 1's target: as ESD's, from the concept's own prediction."""

        def target(noised: Noised, rows: Tensor) -> Tensor:
            named = current.pick(rows.to(current.tokens.device))
            e_c, e_0 = with_null(self.denoiser, noised, named, self.null)
            return e_c - self.config.eta * (e_c - e_0)

        return target

    def _attacked(
        self, name: str, share: ConceptSet, erased: Mapping[str, Tensor], begun: int
    ) -> InversionSet:
        """What one attack on the model with these deltas finds."""
        attack = self.config.attack(int(torch.randint(2**62, (1,), generator=self.generator)))
        told = self._told(f"{name}, attack", begun)
        try:
            with self.denoiser.attached(erased):
                return concept_inversion(self.denoiser, self.encoder, share, attack, told)
        except NonFiniteError as error:
            raise NonFiniteError(
                f"{name}, attack: {error} The rate is attack_learning_rate, "
                f"{self.config.attack_learning_rate:g}."
            ) from error

    def finish(
        self, erased: Context, anchors: Context
    ) -> tuple[dict[str, Tensor], tuple[float, ...]]:
        """Stage 2, from the unedited weights: deltas towards the concept, and losses."""
        config, student = self.config, zero_deltas(self.denoiser, self.keys)
        turns = in_turn(len(anchors.tokens), self.generator)

        def target(noised: Noised, rows: Tensor) -> Tensor:
            scenes = torch.tensor([next(turns) for _ in rows])
            anchor = anchors.pick(scenes.to(anchors.tokens.device))
            return robust_target(self.denoiser, noised, anchor, erased, self.null, config)

        begun = config.rounds * (config.erase_steps + config.attack_steps)
        pace = config.final_steps, config.final_learning_rate
        lesson = self._lesson("STEREO, final erasing", erased, target, pace, every=True)
        losses = self._taught(lesson, student, begun)
        return towards(student), losses

    def _lesson(
        self,
        name: str,
        contexts: Context,
        target: Target,
        pace: tuple[int, float],
        every: bool = False,
    ) -> Lesson:
        """pace: steps and rate; every: each of the contexts comes equally often."""
        return Lesson(
            name,
            contexts,
            self.draw,
            target,
            *(pace[0], self.config.batch_size, pace[1]),
            draw_scale=1.0,
            in_turn=every,
        )

    def _taught(
        self, lesson: Lesson, student: Mapping[str, Tensor], begun: int
    ) -> tuple[float, ...]:
        """One training of the deltas; begun: steps of all stages before."""
        # The source's decay shrinks weights by about 1e-5 in all; here it would shrink the edit.
        own, rate = list(student.values()), lesson.learning_rate
        optimizer = torch.optim.AdamW(own, lr=rate, weight_decay=0.0, foreach=False)
        told = self._told(lesson.name, begun)
        return tuple(teach(self.denoiser, student, optimizer, lesson, self.generator, told))

    def _told(self, name: str, begun: int) -> Progress:
        config = self.config
        whole = config.rounds * (config.erase_steps + config.attack_steps) + config.final_steps
        return lambda done, total, message: self.progress(begun + done, whole, f"{name}: {message}")
