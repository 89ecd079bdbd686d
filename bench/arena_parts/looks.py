"""Concepts of several looks, of which the plain prompt names one: the world of claims 2 and 3.

A concept of the arena has one name, and that name brings it back more surely than inversions do;
where the plain prompt is the worst trigger, others have nothing to say about the strength. Here a
concept is three of the demo's objects, told by pictures of all three, and each of them is once the
one whose name is known.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch

from bench.erasure.concepts import CONCEPTS, Concept, object_concept
from demo.world import OBJECTS
from workflows.graph_parts import asked_for

from .settings import LOOKS


@dataclass(frozen=True, slots=True)
class Looks(Concept):
    """looks: the objects that the judge takes for the concept."""

    looks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LooksJudge:
    """Of the concept it is as sure as of the look that it sees best; other names it passes on."""

    judge: Any
    concept: Looks

    def concepts(self) -> tuple[str, ...]:
        return (self.concept.name, *self.judge.concepts())

    def score(self, images: torch.Tensor, concept: str) -> torch.Tensor:
        """As ports.Judge."""
        if concept != self.concept.name:
            return self.judge.score(images, concept)
        seen = [self.judge.score(images, look) for look in self.concept.looks]
        return torch.stack(seen).amax(0)


def looks_concept(name: str) -> Looks:
    """`name` is of settings.LOOKS; the pictures are of all looks, the plain prompt of one."""
    known, looks = LOOKS[name]
    prompts = tuple(prompt for look in looks for prompt in asked_for(look))
    others = [(f"a {other}", other) for other in OBJECTS if other not in looks]
    one = object_concept(known)
    of_one = {field.name: getattr(one, field.name) for field in fields(one)}
    of_all = {
        "name": name,
        "learned": prompts,
        "captions": prompts,
        "paraphrases": tuple(f"a {look}" for look in looks if look != known),
        "tuning": tuple(others[::2]),
        "reported": tuple(others[1::2]),
    }
    return Looks(**{**of_one, **of_all}, looks=looks)


EVERY_CONCEPT: dict[str, Concept] = {**CONCEPTS, **{name: looks_concept(name) for name in LOOKS}}
