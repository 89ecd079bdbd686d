"""Check a chosen strength on triggers, prompts and seeds that played no part in choosing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from .errors import ConfigError, JudgeError
from .ports import Progress, quiet
from .strength_choice import StrengthChoice, Verification
from .strength_curve import RateRow, rate_row
from .strength_measure import Measurement


def verify(
    choice: StrengthChoice,
    measure: Measurement,
    seeds: Sequence[int],
    retained_seeds: Sequence[int],
    progress: Progress = quiet,
) -> StrengthChoice:
    """The choice with its `verification` filled in from `measure`, which holds held-out triggers.

    Every cell is drawn in full at the chosen strength and at 0, so nothing here is stopped early
    and the bounds are those of one fixed sample.
    Raises ConfigError when a seed was used for tuning or none is given, NoFeasibleStrengthError
    when there is no strength to check, JudgeError when no retained concept is seen at strength 0.
    """
    strength = choice.required()
    _refuse_reuse(choice, seeds, retained_seeds)
    began, z = measure.images_drawn, choice.rule.z
    n, p = measure.trigger_count, measure.prompt_count
    if n < 1 or p < 1:
        raise ConfigError(f"verification: expected triggers and retained prompts, got {n} and {p}")
    rows: dict[tuple[str, float], tuple[RateRow, ...]] = {}
    asks = (("retained", p, measure.retained_hits), ("trigger", n, measure.trigger_hits))
    done = 0
    for at, (role, count, ask) in product((0.0, strength), asks):
        cells = []
        for i in range(count):
            hits = ask(at, i, seeds if role == "trigger" else retained_seeds)
            cells.append(rate_row(i, sum(hits), len(hits), z))
            done += 1
            progress(done, 2 * (n + p), f"held out: strength {at:g}, {role} {i + 1}")
        rows[role, at] = tuple(cells)
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


def _refuse_reuse(
    choice: StrengthChoice, seeds: Sequence[int], retained_seeds: Sequence[int]
) -> None:
    shared = set(seeds) & set(choice.seeds) | set(retained_seeds) & set(choice.retained_seeds)
    if shared or not seeds or not retained_seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(
            f"verification: expected distinct seeds that tuning did not use, got {len(seeds)} and "
            f"{len(retained_seeds)} with {len(shared)} used before"
        )
