"""Diverse Inversion: find many triggers of a concept, check each, replace those that fail.

Known from the paper (arXiv 2404.03631, abstract): many token embeddings that each still produce
the concept, found so that the set is diverse. The check by a judge on the base model, the restart
from new seeds and the dropping are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..concept_set import ConceptSet
from ..errors import ConfigError, InversionError
from ..judging.scoring import HIT, check_judge, judged
from ..ports import Denoiser, Judge, Progress, Sampler, TextEncoder
from ..storage.training_state import TrainingState
from .config import InversionConfig
from .engine import invert, own_seeds
from .inversion_set import InversionSet

OnPictures = Callable[[int, Tensor], None]
NEEDED = 0.5  # share of seeds on which the judge must fire


@dataclass(frozen=True, slots=True)
class Validation:
    """How an inversion proves itself on the denoiser that it was found in.

    edited: that is an edited model, which is attacked: it may draw the concept no longer, so the
    judge is to be checked on its base, by the caller, and embeddings that fail are a result.
    prompt: the plain prompt on which the judge must fire first, such as "a cat". seeds: one picture
    each; at_once: pictures drawn together. rounds: restarts of the failed ones. on_pictures hears
    (number, pictures) of the last drawing of each, float32 [seeds, H, W, 3].
    Raises ConfigError without seeds: nothing would be drawn, so nothing proven.
    """

    sampler: Sampler
    judge: Judge
    prompt: str
    seeds: Sequence[int]
    rounds: int = 1
    needed: float = NEEDED
    at_once: int = 16
    on_pictures: OnPictures | None = None
    edited: bool = False

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ConfigError(
                "validation: expected one or more seeds to draw each inversion with, got none"
            )


def diverse_inversion(
    denoiser: Denoiser,
    encoder: TextEncoder,
    pictures: ConceptSet,
    config: InversionConfig,
    validation: Validation,
    progress: Progress,
    *,
    state: TrainingState | None = None,
    on_checkpoint: Callable[[TrainingState], None] | None = None,
) -> InversionSet:
    """n validated inversions, or fewer with a note that says so; of an edited model all n.

    Raises JudgeError when the judge never fires on the base model's own pictures of the prompt
    (before any work), InversionError when no inversion passes; neither for an edited one. state
    and on_checkpoint belong to the first round, as in `invert`.
    """
    if not validation.edited:
        plain = encoder.encode([validation.prompt])
        check_judge(validation.sampler, validation.judge, pictures.concept, plain, validation.seeds)
    found = invert(
        denoiser, encoder, pictures, config, progress, state=state, on_checkpoint=on_checkpoint
    )
    found = validate(found, encoder, validation, progress)
    restarted = 0
    for generation in range(1, validation.rounds + 1):
        failed = (~found.valid).nonzero()[:, 0].tolist()
        if not failed:
            break
        restarted += len(failed)
        retried = _retry(denoiser, encoder, pictures, config, found, failed, generation, progress)
        retried = validate(retried, encoder, validation, progress, failed)
        found = _merged(found, retried, failed)
    return _attacked(found, restarted) if validation.edited else _kept(found, restarted)


def validate(
    found: InversionSet,
    encoder: TextEncoder,
    validation: Validation,
    progress: Progress,
    numbers: Sequence[int] | None = None,
) -> InversionSet:
    """Draw each embedding; under `needed` of the seeds it is marked invalid.

    numbers: what to call the embeddings towards `on_pictures`; by default 0, 1, ...
    """
    contexts, count = found.contexts(encoder), len(validation.seeds)
    together, rates = max(1, validation.at_once // count), list[float]()
    for start in range(0, len(found), together):
        progress(start, len(found), f"checking inversion {start + 1} of {len(found)}")
        group = torch.arange(start, min(start + together, len(found)))
        rows, seeds = group.repeat_interleave(count), [*validation.seeds] * len(group)
        drawn = validation.sampler.images(contexts.pick(rows), seeds)
        scores = judged(validation.judge, drawn, found.concept).view(len(group), count)
        rates += (scores >= HIT).float().mean(1).tolist()
        if validation.on_pictures:
            for k, pictures in zip(group.tolist(), torch.split(drawn, count), strict=True):
                validation.on_pictures(numbers[k] if numbers else k, pictures)
    hit_rates = torch.tensor(rates)
    return replace(found, hit_rates=hit_rates, valid=hit_rates >= validation.needed)


def _retry(
    denoiser: Denoiser,
    encoder: TextEncoder,
    pictures: ConceptSet,
    config: InversionConfig,
    found: InversionSet,
    failed: Sequence[int],
    generation: int,
    progress: Progress,
) -> InversionSet:
    """New seeds for the failed ones, kept away from those that passed."""
    spans = tuple(config.intervals[k] for k in failed) if config.intervals else None
    smaller = replace(config, count=len(failed), intervals=spans)
    good = {tower: value[found.valid] for tower, value in found.vectors.items()}
    seeds = own_seeds(config, generation)[list(failed)]
    return invert(denoiser, encoder, pictures, smaller, progress, seeds=seeds, fixed=good)


def _merged(found: InversionSet, retried: InversionSet, failed: Sequence[int]) -> InversionSet:
    """Each retried embedding takes its old place."""
    rows = torch.tensor(list(failed))

    def put(old: Tensor, new: Tensor) -> Tensor:
        return old.index_copy(0, rows, new)

    vectors: Mapping[str, Tensor] = {
        tower: put(value, retried.vectors[tower]) for tower, value in found.vectors.items()
    }
    old_rates, new_rates = found.hit_rates, retried.hit_rates
    rates = None if old_rates is None or new_rates is None else put(old_rates, new_rates)
    return replace(
        found,
        vectors=vectors,
        losses=put(found.losses, retried.losses),
        seeds=put(found.seeds, retried.seeds),
        valid=put(found.valid, retried.valid),
        hit_rates=rates,
    )


def _attacked(found: InversionSet, restarted: int) -> InversionSet:
    notes = [f"{restarted} restarted from new seeds"] if restarted else []
    rate = 0.0 if found.hit_rates is None else float(found.hit_rates.mean())
    notes.append(
        f"{int(found.valid.sum())} of {len(found)} bring {found.concept!r} back on the edited "
        f"MODEL; the judge saw it in {rate:.0%} of all pictures drawn with them"
    )
    return replace(found, notes=tuple(notes))


def _kept(found: InversionSet, restarted: int) -> InversionSet:
    dropped = int((~found.valid).sum())
    kept = found.only_valid()
    if kept is None:
        best = 0.0 if found.hit_rates is None else float(found.hit_rates.max())
        raise InversionError(
            f"None of {len(found)} inversions made the judge see {found.concept!r} often enough on "
            f"the base model (best: {best:.0%} of pictures, {restarted} restarts). Give more "
            "steps, a higher learning rate, more vectors each, or wider intervals."
        )
    notes = [f"{restarted} restarted from new seeds"] if restarted else []
    if dropped:
        notes.append(f"{dropped} of {len(found)} dropped: the judge did not fire often enough")
    return replace(kept, notes=tuple(notes))
