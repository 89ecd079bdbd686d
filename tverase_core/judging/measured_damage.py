"""What erasing one concept takes of the others, as pictures tell: drawn under each edit, judged.

The counterpart of `interference`, which predicts the same from the vectors alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError, JudgeError
from ..ports import Context, Denoiser, Judge, Progress, Sampler, quiet
from ..vector.erase import signed_scale
from ..vector.pruned import pruned_union
from .scoring import HIT, judged
from .statistics import wilson

ALL = "all"  # the row in which every edit is at work


@dataclass(frozen=True, slots=True)
class MeasuredDamage:
    """names: of the n concepts. pictures: drawn of each concept in each state.

    before: pictures of each concept in which the judge saw it on the unedited model, n. after: the
    same with an edit at work, [n + 1][n]: row i has edit i, the last one all edits together.
    """

    names: tuple[str, ...]
    pictures: int
    before: tuple[int, ...]
    after: tuple[tuple[int, ...], ...]

    @property
    def rows(self) -> tuple[str, ...]:
        """What each row of `after` has erased."""
        return (*self.names, ALL)

    def damage(self) -> Tensor:
        """float64 [n + 1, n]: the share of a concept's hits that is gone; below 0: more hits."""
        before = torch.tensor(self.before, dtype=torch.float64)
        return 1 - torch.tensor(self.after, dtype=torch.float64) / before

    def to_text(self) -> str:
        """One line a state: each concept's rate with its 95 % interval (Wilson)."""
        states = [("Unedited", self.before)]
        states += [
            (f"Erasing {row}", hits) for row, hits in zip(self.rows, self.after, strict=True)
        ]
        lines = [f"{self.pictures} pictures of each concept; how often the judge sees it:"]
        for label, hits in states:
            cells = (f"{n} {self._rate(k)}" for n, k in zip(self.names, hits, strict=True))
            lines.append(f"{label}: {', '.join(cells)}")
        return "\n".join(lines)

    def _rate(self, hits: int) -> str:
        low, high = wilson(hits, self.pictures)
        return f"{hits / self.pictures:.0%} ({low:.0%} to {high:.0%})"


def measure_damage(
    denoiser: Denoiser,
    sampler: Sampler,
    judge: Judge,
    edits: Sequence[tuple[float, Mapping[str, Tensor]]],
    prompts: Context,
    names: Sequence[str],
    *,
    pictures: int,
    pruned: Collection[int] = (),
    seed: int = 0,
    at_once: int = 8,
    progress: Progress = quiet,
) -> MeasuredDamage:
    """Draw each concept's prompt unedited, under each edit and under all, at the same seeds.

    edits: n pairs of a strength >= 0 and deltas by weight key, towards the concept, on the CPU; one
    state's deltas are on the denoiser's device at a time. pruned: numbers of the edits of pruned
    weights, of which several act as their `pruned_union`, as in a sum of vectors. prompts: n
    rows, what draws each concept. names: the judge's, n. pictures: of each prompt in each state,
    >= 1, at seeds `seed`, `seed` + 1, ...; at_once: of them held at a time, >= 1.
    Raises before any picture ConfigError (fewer than two concepts, counts that differ) and
    StrengthError; later NonFiniteError (the judge's answer), JudgeError when the judge sees a
    concept in less than half of the unedited model's pictures.
    """
    count = len(names)
    counts = {count, len(edits), len(prompts.tokens)}
    if count < 2 or len(counts) > 1 or min(pictures, at_once) < 1:
        raise ConfigError(
            "measured damage: expected two or more concepts, an edit and a prompt for each, and a "
            f"picture at least; got {count} concepts, {len(edits)} edits, {len(prompts.tokens)} "
            f"prompts and {pictures} pictures"
        )
    for strength, _ in edits:
        signed_scale(strength)
    labels = ("nothing", *names, ALL)
    states = [[], *([edit] for edit in edits), edits]
    chunks = [
        range(seed + i, seed + min(i + at_once, pictures)) for i in range(0, pictures, at_once)
    ]
    total, done = len(states) * count * len(chunks), 0
    found: list[tuple[int, ...]] = []
    for label, state in zip(labels, states, strict=True):
        hits = [0] * count
        with denoiser.attached(together(state, denoiser.device, pruned)) as attachment:
            attachment.scale = signed_scale(1.0)
            for row, name in enumerate(names):
                for seeds in chunks:
                    progress(done, total, f"{name}, erased: {label}")
                    hits[row] += _hits(sampler, judge, prompts, row, name, seeds)
                    done += 1
        if not found:
            _refuse_blind(names, hits, pictures)
        found.append(tuple(hits))
    progress(1, 1, "measured")
    return MeasuredDamage(tuple(names), pictures, found[0], tuple(found[1:]))


def together(
    edits: Sequence[tuple[float, Mapping[str, Tensor]]],
    device: torch.device,
    pruned: Collection[int] = (),
) -> dict[str, Tensor]:
    """The sum of strength * delta, key by key, of those of pruned weights their `pruned_union`:
    float32, on the device. pruned: the numbers of these; of one edit alone they say nothing."""
    total: dict[str, Tensor] = {}
    for number in sorted(range(len(edits)), key=lambda number: number not in pruned):
        strength, deltas = edits[number]
        for key, delta in deltas.items():
            part = strength * delta.to(device, torch.float32)
            if key not in total:
                total[key] = part
            elif number in pruned:
                total[key] = pruned_union(total[key], part)
            else:
                total[key].add_(part)
    return total


def _hits(
    sampler: Sampler, judge: Judge, prompts: Context, row: int, name: str, seeds: Sequence[int]
) -> int:
    rows = torch.full((len(seeds),), row, device=prompts.tokens.device)
    images = sampler.images(prompts.pick(rows), list(seeds))
    whole = images.isfinite().flatten(1).all(1)  # a broken picture shows nothing
    return int((judged(judge, images[whole], name) >= HIT).sum()) if bool(whole.any()) else 0


def _refuse_blind(names: Sequence[str], hits: Sequence[int], pictures: int) -> None:
    """A judge that does not see a concept cannot see it go."""
    blind = [
        f"{name!r} in {k} of {pictures}"
        for name, k in zip(names, hits, strict=True)
        if 2 * k < pictures
    ]
    if blind:
        raise JudgeError(
            f"The judge sees {', '.join(blind)} pictures of the unedited model, less than half. "
            "Use a prompt that draws the concept more surely, or a judge that knows it better."
        )
