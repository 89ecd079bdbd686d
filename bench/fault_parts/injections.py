"""Faults at seeded moments of every stage: what changed, what was left, what comes next."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tverase_core.errors import TveraseError

from .digest import digest_of
from .injecting import EXPECTED, KINDS, Moments
from .stages import SLOW
from .traces import Base, live_bytes
from .world import AnyWorld, Stage


@dataclass
class Told:
    """points: how many faults were injected, by stage and kind. wrong: what each wrong one did, in
    words. growth: the largest share by which memory had grown after all faults of a stage."""

    points: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    ended: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    growth: float = 0.0

    @property
    def injected(self) -> int:
        return sum(sum(kinds.values()) for kinds in self.points.values())


def inject(told: Told, world: AnyWorld, each: int, seed: int, only: Sequence[str] = ()) -> None:
    """`each` faults of every kind at every stage that has moments for it, a quarter of that at
    the slow ones."""
    base = Base(world)
    for name, stage in world.stages().items():
        if only and name not in only:
            continue
        expected = digest_of(stage())
        before = live_bytes()
        for kind in KINDS:
            count = -(-each // 4) if name in SLOW else each
            for point in moments_of(stage, kind, count, f"{seed} {name} {kind}"):
                words = f"{name}, {kind} at moment {point}"
                told.ended[stopped_at(stage, kind, point)] += 1
                told.points[name][kind] += 1
                _check(base, stage, expected, words, told)
        told.growth = max(told.growth, live_bytes() / before - 1)
        print(
            f"{name}: {dict(told.points[name])}, {sum(map(len, told.wrong.values()))} wrong",
            flush=True,
        )


def moments_of(stage: Stage, kind: str, each: int, seed: str) -> list[int]:
    """Numbers of different moments, from 1."""
    moments = Moments()
    with KINDS[kind][0](moments):
        stage()
    source = random.Random(seed)
    return sorted(source.sample(range(1, moments.count + 1), min(each, moments.count)))


def stopped_at(stage: Stage, kind: str, point: int) -> str:
    """How the stage ended."""
    at, act = KINDS[kind]
    try:
        with at(Moments(point, act)):
            stage()
    except (TveraseError, *EXPECTED) as error:
        return type(error).__name__
    return "went on"


def _check(base: Base, stage: Stage, expected: str, words: str, told: Told) -> None:
    left = base.left_behind()
    if left:
        told.wrong["wrappers_leaked"].append(f"{words}: {left}")
    changed = base.changed()
    if changed:
        told.wrong["base_changed"].append(f"{words}: {changed}")
    with suppress(Exception):
        if digest_of(stage()) == expected:
            return
    told.wrong["next_run_failed"].append(words)


def table(told: Told) -> dict[str, Any]:
    """By stage and kind, and how the stages ended."""
    return {
        "points": {stage: dict(kinds) for stage, kinds in told.points.items()},
        "ended": dict(told.ended),
        "wrong": {name: lines[:20] for name, lines in told.wrong.items()},
    }
