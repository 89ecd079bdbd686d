"""What a strength search asks of a model, and the adapter that asks a real one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

import torch

from ..errors import ConfigError
from ..judging.collapse_guard import (
    CollapseGuard,
    PictureStatistics,
    any_not_finite,
    collapse_reason,
    picture_statistics,
)
from ..judging.scoring import HIT, judged
from ..ports import Attachment, Context, Judge, Sampler
from ..vector.erase import signed_scale

Cell: TypeAlias = tuple[int, int]  # (trigger or retained prompt, seed): one picture


def batched(cells: Sequence[Cell], at_once: int) -> Iterator[Sequence[Cell]]:
    """The cells in order, `at_once` a part, the last part with what is left."""
    return (cells[i : i + at_once] for i in range(0, len(cells), at_once))


class Measurement(Protocol):
    """Draws pictures at a strength and tells whether the judge fires.

    All pictures of one question may be drawn together: several triggers in a batch cost far less
    than one after the other.
    """

    @property
    def trigger_count(self) -> int:
        """Number of triggers, n."""
        ...

    @property
    def prompt_count(self) -> int:
        """Number of retained prompts, p."""
        ...

    @property
    def images_drawn(self) -> int:
        """Pictures drawn so far; a cached answer draws none."""
        ...

    def trigger_hits(self, strength: float, cells: Sequence[Cell]) -> list[bool]:
        """Whether the concept is seen, one answer a (trigger, seed)."""
        ...

    def retained_hits(self, strength: float, cells: Sequence[Cell]) -> list[bool]:
        """Whether the prompt's own concept is seen, one answer a (retained prompt, seed)."""
        ...

    def collapse(self, strength: float) -> str | None:
        """Why the pictures drawn so far at this strength count as broken, or None."""
        ...


class ModelMeasurement:
    """Measures through one open attachment, whose scale alone changes between strengths.

    Answers are kept by (strength, trigger, seed), so nothing is drawn twice; pictures are not
    kept, only their statistics. The collapse guard's limits come from the retained prompts'
    pictures at strength 0; until those are drawn it only sees values that are not finite.
    A picture that is not finite never counts as a hit and is not shown to the judge.

    triggers: n rows; retained: p rows; retained_concepts: the judge's name for what each retained
    prompt should show, p names. fires: a judge score at or above this is a hit. collapse_share: a
    strength has collapsed when more than this share of its retained pictures is broken.
    Raises ConfigError when there is no trigger, or the counts differ; a question raises
    StrengthError, and NonFiniteError when the judge answers with NaN or infinity.
    """

    def __init__(
        self,
        attachment: Attachment,
        sampler: Sampler,
        judge: Judge,
        concept: str,
        triggers: Context,
        retained: Context,
        retained_concepts: Sequence[str],
        *,
        fires: float = HIT,
        collapse_share: float = 0.25,
    ) -> None:
        if len(triggers.tokens) < 1 or len(retained.tokens) != len(retained_concepts):
            raise ConfigError(
                "measurement: expected one or more triggers and one concept a retained prompt, got "
                f"{len(triggers.tokens)} triggers, {len(retained.tokens)} prompts and "
                f"{len(retained_concepts)} concepts"
            )
        self._attachment, self._sampler, self._judge = attachment, sampler, judge
        self._concept, self._triggers, self._retained = concept, triggers, retained
        self._retained_concepts = tuple(retained_concepts)
        self._fires, self._collapse_share = fires, collapse_share
        self._hits: dict[tuple[str, float, int, int], bool] = {}
        self._pictures: dict[tuple[str, float], list[PictureStatistics]] = {}

    @property
    def trigger_count(self) -> int:
        return len(self._triggers.tokens)

    @property
    def prompt_count(self) -> int:
        return len(self._retained_concepts)

    @property
    def images_drawn(self) -> int:
        return len(self._hits)

    def trigger_hits(self, strength: float, cells: Sequence[Cell]) -> list[bool]:
        names = [self._concept] * self.trigger_count
        return self._measure("trigger", strength, cells, self._triggers, names)

    def retained_hits(self, strength: float, cells: Sequence[Cell]) -> list[bool]:
        return self._measure("retained", strength, cells, self._retained, self._retained_concepts)

    def collapse(self, strength: float) -> str | None:
        if any_not_finite(self._pictures.get(("trigger", strength), [])):
            return "trigger pictures are not finite"
        rows = self._pictures.get(("retained", strength), [])
        if any_not_finite(rows):
            return "retained pictures are not finite"
        base = self._pictures.get(("retained", 0.0), [])
        if strength == 0 or not base:
            return None
        guard = CollapseGuard.from_statistics(base)
        return collapse_reason([guard.reason(row) for row in rows], self._collapse_share)

    def _measure(
        self,
        role: str,
        strength: float,
        cells: Sequence[Cell],
        contexts: Context,
        names: Sequence[str],
    ) -> list[bool]:
        keys = {(row, seed): (role, strength, row, seed) for row, seed in cells}
        missing = [cell for cell, key in keys.items() if key not in self._hits]
        if missing:
            rows = torch.tensor([row for row, _ in missing], device=contexts.tokens.device)
            self._attachment.scale = signed_scale(strength)
            with torch.no_grad():
                images = self._sampler.images(contexts.pick(rows), [seed for _, seed in missing])
            statistics = picture_statistics(images)
            fired = self._fired(images, statistics, [names[row] for row, _ in missing])
            self._pictures.setdefault((role, strength), []).extend(statistics)
            for cell, hit in zip(missing, fired, strict=True):
                self._hits[keys[cell]] = hit
        return [self._hits[keys[cell]] for cell in cells]

    def _fired(
        self, images: torch.Tensor, statistics: Sequence[PictureStatistics], names: Sequence[str]
    ) -> list[bool]:
        """Whether the judge sees in picture i what names[i] says."""
        fired = [False] * len(names)
        for name in dict.fromkeys(names):
            whole = [i for i, s in enumerate(statistics) if s.finite and names[i] == name]
            if whole:
                scores = judged(self._judge, images[whole], name)
                for i, score in zip(whole, scores.tolist(), strict=True):
                    fired[i] = score >= self._fires
        return fired
