"""Where a task vector comes from: concepts, recipe, ancestors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from ..errors import ConfigError, StrengthError
from ..model.block_mask import BlockMask
from ..schedule import Prediction

_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@dataclass(frozen=True, slots=True)
class Parent:
    """An ancestor by its content digest, and how often it is contained."""

    content_sha256: str
    coefficient: float


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Strength and mask that a search chose; report: digest of its report, if there is one."""

    strength: float
    mask: BlockMask = field(default_factory=BlockMask.full)
    report: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf"):
            raise StrengthError(
                f"recommended strength: expected finite and >= 0, got {self.strength!r}"
            )


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a task vector comes from; nothing here changes what it computes.

    concepts: as the user named them. recipe: settings of the fine-tune, JSON values only.
    parents: ancestors of a sum. history: what was done to the vector since, in short sentences.
    created: UTC as "2026-01-31T12:00:00Z", given by the caller, or "".
    prediction: "epsilon", "v", "flow" or "". recommended: dropped by every change of the vector.
    content: "pruned" for pruned weights, which add up otherwise (`pruned_union`), or "".
    extra: unknown metadata of a file of a newer minor format, kept for the next save.
    Raises ConfigError, all problems together.
    """

    concepts: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    parents: tuple[Parent, ...] = ()
    history: tuple[str, ...] = ()
    created: str = ""
    title: str = ""
    author: str = ""
    description: str = ""
    license: str = ""
    tags: tuple[str, ...] = ()
    prediction: str = ""
    software: str = "tverase"
    content: str = ""
    recommended: Recommendation | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = []
        if self.created and not _UTC.fullmatch(self.created):
            problems.append(f"created: expected UTC as 2026-01-31T12:00:00Z, got {self.created!r}")
        if self.prediction not in ("", *get_args(Prediction)):
            problems.append(
                f"prediction: expected 'epsilon', 'v' or 'flow', got {self.prediction!r}"
            )
        for name in ("concepts", "tags", "history"):
            if isinstance(getattr(self, name), str):
                problems.append(f"{name}: expected a sequence of strings, got one string")
        try:
            json.dumps(dict(self.recipe), allow_nan=False)
        except (TypeError, ValueError) as error:
            problems.append(f"recipe: expected JSON values, {error}")
        if problems:
            raise ConfigError("provenance: " + "; ".join(problems))
        for name in ("concepts", "parents", "history", "tags"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def derived(self, digest: str, coefficient: float = 1.0, *, step: str = "") -> Provenance:
        """Of `coefficient` times the vector with this digest; step: what was done, if not that."""
        parents = self.parents or (Parent(digest, 1.0),)
        return replace(
            self,
            parents=tuple(Parent(p.content_sha256, coefficient * p.coefficient) for p in parents),
            history=(*self.history, step) if step else self.history,
            recommended=None,
            extra={},
        )

    def plus(self, other: Provenance) -> Provenance:
        """Of the sum of two derived vectors: coefficients of shared ancestors add up."""
        totals: dict[str, float] = {}
        for parent in (*self.parents, *other.parents):
            known = totals.get(parent.content_sha256, 0.0)
            totals[parent.content_sha256] = known + parent.coefficient
        return Provenance(
            concepts=_union(self.concepts, other.concepts),
            recipe=self.recipe if dict(self.recipe) == dict(other.recipe) else {},
            parents=tuple(Parent(digest, total) for digest, total in totals.items() if total),
            history=_union(self.history, other.history),
            created=max(self.created, other.created),
            title=" + ".join(t for t in _union((self.title,), (other.title,)) if t),
            author=", ".join(t for t in _union((self.author,), (other.author,)) if t),
            license=self.license if self.license == other.license else "",
            tags=_union(self.tags, other.tags),
            prediction=_agreed(self.prediction, other.prediction),
            software=self.software,
            content=self.content if self.content == other.content else "",
        )


def _agreed(first: str, second: str) -> str:
    """What one of both says, or both; "" where they differ."""
    return first or second if not (first and second) or first == second else ""


def _union(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
