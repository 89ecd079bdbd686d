"""Check a chosen strength on triggers and seeds that played no part in choosing it.

The retained prompts may be those that helped to choose it; then only their seeds are new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from ..errors import ConfigError, JudgeError
from ..ports import Progress, quiet
from .choice import StrengthChoice, Verification
from .curve import RateRow, rate_row
from .measurement import Measurement, batched


def verify(
    choice: StrengthChoice,
    measure: Measurement,
    seeds: Sequence[int],
    retained_seeds: Sequence[int],
    progress: Progress = quiet,
    at_once: int = 16,
) -> StrengthChoice:
    """The choice with its `verification` filled in from `measure`, which holds held-out triggers.

    Every cell is drawn in full at the chosen strength and at 0, so nothing here is stopped early
    and the bounds are those of one fixed sample. Triggers were validated on the unedited model
    before, so it draws only `base_draws` of their seeds. at_once: pictures drawn together.
    Raises ConfigError when a seed was used for tuning, comes twice or none is given,
    NoFeasibleStrengthError when there is no strength to check, JudgeError when no retained concept
    is seen at strength 0, and what `measure` raises.
    """
    strength = choice.required()
    _refuse_reuse(choice, seeds, retained_seeds)
    began, z = measure.images_drawn, choice.rule.z
    n, p = measure.trigger_count, measure.prompt_count
    if n < 1 or p < 1:
        raise ConfigError(f"verification: expected triggers and retained prompts, got {n} and {p}")
    rows = _drawn_in_full(measure, strength, seeds, retained_seeds, z, progress, at_once)
    kept_base = sum(r.rate for r in rows["retained", 0.0])
    if kept_base == 0:
        raise JudgeError("verification: the judge sees no retained concept at strength 0")
    triggers = rows["trigger", strength]
    ratio = sum(r.rate for r in rows["retained", strength]) / kept_base
    worst_high = max(r.high for r in triggers)
    collapsed = measure.collapse(strength)
    found = Verification(
        strength=strength,
        seeds=tuple(seeds),
        triggers=triggers,
        triggers_base=rows["trigger", 0.0],
        retained=rows["retained", strength],
        retained_base=rows["retained", 0.0],
        mean_hit=sum(r.rate for r in triggers) / n,
        worst_rate=max(r.rate for r in triggers),
        worst_high=worst_high,
        retained_ratio=ratio,
        collapsed=collapsed,
        passed=worst_high <= choice.rule.target
        and ratio >= choice.rule.budget
        and collapsed is None,
        images_drawn=measure.images_drawn - began,
    )
    return replace(choice, verification=found)


def base_draws(count: int) -> int:
    """How many of `count` seeds show a trigger on the unedited model: a quarter, at least 4."""
    return min(count, max(4, -(-count // 4)))


def _drawn_in_full(
    measure: Measurement,
    strength: float,
    seeds: Sequence[int],
    retained_seeds: Sequence[int],
    z: float,
    progress: Progress,
    at_once: int,
) -> dict[tuple[str, float], tuple[RateRow, ...]]:
    """Rates by role ("trigger", "retained") and strength, which is 0 or the given one."""
    few = seeds[: base_draws(len(seeds))]
    rows: dict[tuple[str, float], tuple[RateRow, ...]] = {}
    asks = (
        (0.0, "retained", measure.prompt_count, retained_seeds),
        (0.0, "trigger", measure.trigger_count, few),
        (strength, "retained", measure.prompt_count, retained_seeds),
        (strength, "trigger", measure.trigger_count, seeds),
    )
    done, total = 0, sum(count * len(drawn) for _, _, count, drawn in asks)
    for at, role, count, drawn in asks:
        ask = measure.trigger_hits if role == "trigger" else measure.retained_hits
        cells, hits = list(product(range(count), drawn)), list[bool]()
        for part in batched(cells, at_once):
            hits += ask(at, part)
            done += len(part)
            progress(done, total, f"held out: strength {at:g}, {role} {part[-1][0] + 1}")
        size = len(drawn)
        by_row = (hits[i * size : (i + 1) * size] for i in range(count))
        rows[role, at] = tuple(rate_row(i, sum(h), size, z) for i, h in enumerate(by_row))
    return rows


def _refuse_reuse(
    choice: StrengthChoice, seeds: Sequence[int], retained_seeds: Sequence[int]
) -> None:
    """Two equal seeds draw one picture twice, which would count as two."""
    shared = set(seeds) & set(choice.seeds) | set(retained_seeds) & set(choice.retained_seeds)
    twice = sum(len(drawn) - len(set(drawn)) for drawn in (seeds, retained_seeds))
    if shared or twice or not seeds or not retained_seeds:
        raise ConfigError(
            f"verification: expected distinct seeds that tuning did not use, got {len(seeds)} for "
            f"triggers and {len(retained_seeds)} for retained prompts, of which {len(shared)} were "
            f"used before and {twice} repeat another"
        )
