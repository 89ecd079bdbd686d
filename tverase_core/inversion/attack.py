"""Concept Inversion: search the edited model itself for an embedding that brings the concept back.

The attack of arXiv 2308.01508. It is adaptive: unlike the set that chose the strength, it sees the
edit. Its authors ran 5,000 steps of 16 pictures at a constant rate of 0.08 from a coarse word; ours
runs any number of independent attacks in one batch. An attack proves something only where the same
search on the unedited model succeeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..concept_set import ConceptSet
from ..errors import ConfigError
from ..judging.statistics import Interval, wilson
from ..ports import Denoiser, Progress, TextEncoder
from ..storage.reproducible import compact_json
from ..storage.training_state import TrainingState
from .config import InversionConfig
from .diverse import Validation, validate
from .engine import invert, objective_of, own_seeds
from .inversion_set import InversionSet
from .space import Space

GENERATION = 1000  # of seeds: no restart of Diverse Inversion comes near it
MEMORY = ("chunk", "draws_at_once")  # settings that leave the result as it is, up to rounding
JUDGED = "judged"  # in a set's objective: how its pictures were drawn, and how many


def concept_inversion(
    edited: Denoiser,
    encoder: TextEncoder,
    pictures: ConceptSet,
    config: InversionConfig,
    progress: Progress,
    *,
    state: TrainingState | None = None,
    on_checkpoint: Callable[[TrainingState], None] | None = None,
) -> InversionSet:
    """`config.count` independent attacks on an edited denoiser; no diversity, no intervals.

    edited: the denoiser with the edit at work. Judge the result on the edited model; an attack only
    counts where the same search on the base model succeeds. state and on_checkpoint: as in
    `invert`, as is what it raises.
    """
    free = _free(config)
    seeds = own_seeds(free, GENERATION)  # so that the set can join one of Diverse Inversion
    parts = edited, encoder, pictures, free, progress
    return invert(*parts, seeds=seeds, state=state, on_checkpoint=on_checkpoint)


def check_words(encoder: TextEncoder, concept: str, config: InversionConfig) -> None:
    """Raises ConfigError before any work for a start word or a sentence that does not do."""
    with torch.no_grad():
        first = Space(encoder, concept, config).start(torch.zeros(1, dtype=torch.int64))
        for sentence in dict.fromkeys((config.template, *config.sentences)):
            encoder.encode_with(first, sentence)


def judged_attack(
    found: InversionSet,
    encoder: TextEncoder,
    validation: Validation,
    progress: Progress,
    drawing: Mapping[str, Any],
) -> InversionSet:
    """The set with the rates at which its embeddings bring the concept back on this model.

    drawing: how the sampler draws, for the comparison with the base's set; ready for JSON.
    """
    judged = validate(found, encoder, validation, progress)
    how = _how(drawing, validation.seeds)
    return replace(judged, objective={**found.objective, JUDGED: how})


def judged_settings(
    config: InversionConfig,
    pictures: ConceptSet,
    drawing: Mapping[str, Any],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """The objective that `concept_inversion` and then `judged_attack` will give their set."""
    return {**objective_of(_free(config), pictures), JUDGED: _how(drawing, seeds)}


def _free(config: InversionConfig) -> InversionConfig:
    """Nothing holds an attack."""
    return replace(config, diversity=0.0, intervals=None)


def _how(drawing: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    return {**drawing, "seeds": [seeds[0], len(seeds)]}


@dataclass(frozen=True, slots=True)
class Leak:
    """What attacks on an edited model brought back, beside the same attacks on its base.

    edited, base: of `judged_attack`, attack i of both from one seed. An attack counts when it
    succeeds on the base: when the judge saw the concept there in half of its pictures or more.
    Raises ConfigError for sets of other settings.
    """

    edited: InversionSet
    base: InversionSet

    def __post_init__(self) -> None:
        require_same_attack(self.base, self.edited.objective, self.edited.concept)
        if self.base.text_encoder != self.edited.text_encoder:
            raise ConfigError(
                "Concept Inversion: the two attacks went through text encoders of other "
                f"vocabularies ({self.base.text_encoder} and {self.edited.text_encoder}). Connect "
                "the CLIP of the base, or an edit of it, to both."
            )

    @property
    def draws(self) -> int:
        """Pictures that each embedding was judged on."""
        return int(self.edited.objective[JUDGED]["seeds"][1])

    @property
    def counted(self) -> tuple[int, ...]:
        """The attacks that succeed on the base."""
        return tuple(self.base.valid.nonzero()[:, 0].tolist())

    def hits_of(self, side: InversionSet, number: int) -> int:
        """Pictures of one attack in which the judge saw the concept."""
        assert side.hit_rates is not None  # of a judged set
        return round(float(side.hit_rates[number]) * self.draws)

    def hits(self, side: InversionSet) -> int:
        """The same of all attacks that count."""
        return sum(self.hits_of(side, number) for number in self.counted)

    def interval(self, side: InversionSet) -> Interval:
        """Of `hits`' rate, 95 % (Wilson), over pictures; 0 to 1 when no attack counts."""
        return wilson(self.hits(side), len(self.counted) * self.draws)

    def upper_bound(self) -> float:
        """Of the attack that brings most back; 1 when no attack counts."""
        worst = max((self.hits_of(self.edited, number) for number in self.counted), default=None)
        return 1.0 if worst is None else wilson(worst, self.draws).high


def require_same_attack(base: InversionSet, objective: Mapping[str, Any], concept: str) -> None:
    """Raises ConfigError unless the base's set was searched and judged as `objective` says.

    objective: of `judged_attack`.
    """
    mine, theirs = (
        compact_json({key: value for key, value in one.items() if key not in MEMORY})
        for one in (objective, base.objective)
    )
    if base.concept != concept or base.hit_rates is None or mine != theirs:
        differing = sorted(
            key
            for key in {*objective, *base.objective} - {*MEMORY}
            if compact_json(objective.get(key)) != compact_json(base.objective.get(key))
        )
        raise ConfigError(
            f"Concept Inversion: the attack on the base, on {base.concept!r}, is not the one that "
            f"is asked for, on {concept!r} (other: {', '.join(differing) or 'the concept'}), so "
            "the two cannot be compared. Disconnect `base_attack`, and it is run anew."
        )
