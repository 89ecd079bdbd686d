"""Auto-Strength: the smallest strength that suppresses every trigger, found with few pictures.

The abstract of arXiv 2404.03631 says what is searched; how it is searched here is our derivation.

How sure is the answer? A trigger meets the target when the upper Wilson bound over all N tuning
seeds does. That allows at most k hits in N, so drawing stops at hit k + 1: the full sample would
decide the same, hence this stopping costs no error level (curtailed sampling). Triggers are drawn
side by side, `at_once` pictures in a batch; a few too many are cheaper than small batches. While
the strength is bracketed, a strength passes for now after the first few seeds; such a pass only
steers. The strength that is returned has passed with all N seeds of every trigger. "Every trigger
passes" is an intersection of tests and needs no correction for their number. Confirming c
strengths in turn does raise the chance that one passes by luck, at most c-fold; c is reported as
`confirmations`, and `verify` on other triggers and seeds is free of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..errors import ConfigError, JudgeError
from ..ports import Progress, quiet
from .choice import SearchConfig, StrengthChoice
from .curve import (
    Choice,
    StrengthCurve,
    StrengthRule,
    TradeOff,
    choose_strength,
    grid_images,
    infeasible,
    rate_rows,
)
from .measurement import Cell, Measurement, batched


class _Search:
    """Hits by (grid index, trigger), and what they decide. Lives for one search."""

    def __init__(self, measure: Measurement, config: SearchConfig, progress: Progress) -> None:
        self.measure, self.config, self.progress = measure, config, progress
        self.values, self.rule = config.grid.values, config.rule
        self.hits: dict[tuple[int, int], list[bool]] = {}
        self.kept: dict[tuple[int, int], list[bool]] = {}
        self.blame = [0] * measure.trigger_count
        self.confirmations = 0
        self.began = measure.images_drawn

    def images(self) -> int:
        return self.measure.images_drawn - self.began

    def tell(self, message: str) -> None:
        n, p = self.measure.trigger_count, self.measure.prompt_count
        looks = math.ceil(math.log2(len(self.values))) * n * self.config.probe // 2
        usual = looks + n * len(self.config.seeds) + 2 * p * len(self.config.retained_seeds)
        done = self.images()
        self.progress(done, max(usual, done + 1), message)

    def draw(self, index: int, triggers: Sequence[int], count: int) -> None:
        """Make sure of the first `count` seeds of these triggers at a strength."""
        wanted = [
            (trigger, seed)
            for trigger in triggers
            for seed in self.config.seeds[len(self.hits.get((index, trigger), [])) : count]
        ]
        self.ask(self.measure.trigger_hits, self.hits, index, wanted, "trigger")

    def ask(
        self,
        measured: Callable[[float, Sequence[Cell]], list[bool]],
        found: dict[tuple[int, int], list[bool]],
        index: int,
        wanted: Sequence[Cell],
        word: str,
    ) -> None:
        """Measure these cells at a strength and add what comes to `found`."""
        for cells in batched(wanted, self.config.at_once):
            hits = measured(self.values[index], cells)
            for (row, _), hit in zip(cells, hits, strict=True):
                found.setdefault((index, row), []).append(hit)
            self.tell(f"strength {self.values[index]:g}, {word} {cells[-1][0] + 1}")

    def passes(self, index: int, count: int) -> bool:
        """Whether no trigger is ruled out by its first `count` seeds; the hardest go first."""
        limit = self.rule.most_hits(len(self.config.seeds))
        together = max(1, self.config.at_once // self.config.block)
        for look in range(self.config.block, count + self.config.block, self.config.block):
            waiting = sorted(range(len(self.blame)), key=lambda t: (-self.blame[t], t))
            for start in range(0, len(waiting), together):
                group = waiting[start : start + together]
                self.draw(index, group, min(look, count))
                for trigger in group:
                    if sum(self.hits[index, trigger]) > limit:
                        self.blame[trigger] += 1
                        return False
        return True

    def collapsed(self, index: int) -> str | None:
        return self.measure.collapse(self.values[index])

    def keep(self, index: int) -> None:
        """Draw every retained prompt at a strength."""
        wanted = [
            (prompt, seed)
            for prompt in range(self.measure.prompt_count)
            if (index, prompt) not in self.kept
            for seed in self.config.retained_seeds
        ]
        self.ask(self.measure.retained_hits, self.kept, index, wanted, "retained prompt")

    def settle(self, guess: int) -> int | None:
        """The least index that passes with all seeds or has collapsed; None when none does."""
        rejected, passed, confirmed = -1, set[int](), set[int]()
        full, probe = len(self.config.seeds), min(self.config.probe, len(self.config.seeds))
        last, step, tried = len(self.values) - 1, max(1, len(self.values) // 16), False

        def test(index: int, count: int) -> None:
            nonlocal rejected
            if self.passes(index, count) or self.collapsed(index) is not None:
                passed.add(index)
            else:
                rejected = max(rejected, index)

        test(0, probe)
        while True:
            ceiling = min((i for i in passed if i > rejected), default=None)
            if ceiling is None:
                if rejected == last:
                    return None
                index = min(last, rejected + step) if tried else max(guess, rejected + 1)
                step, tried = step * 2 if tried else step, True
                test(index, probe)
            elif ceiling - rejected > 1:
                test((ceiling + rejected) // 2, probe)
            elif ceiling in confirmed or self.collapsed(ceiling) is not None:
                return ceiling
            else:
                self.confirmations += 1
                confirmed.add(ceiling)
                test(ceiling, full)
                step = 1

    def curve(self) -> StrengthCurve:
        rows = sorted({i for i, _ in self.hits} | {i for i, _ in self.kept})
        n, p = range(self.measure.trigger_count), range(self.measure.prompt_count)
        return StrengthCurve(
            tuple(self.values[i] for i in rows),
            tuple(tuple(sum(self.hits.get((i, j), [])) for j in n) for i in rows),
            tuple(tuple(len(self.hits.get((i, j), [])) for j in n) for i in rows),
            tuple(tuple(sum(self.kept.get((i, j), [])) for j in p) for i in rows),
            tuple(tuple(len(self.kept.get((i, j), [])) for j in p) for i in rows),
            tuple(self.collapsed(i) for i in rows),
        )

    def within_budget(self, index: int) -> bool:
        self.keep(index)
        curve = self.curve()
        row = curve.strengths.index(self.values[index])
        ratio = curve.retained_ratio(row)
        return ratio is not None and ratio >= self.rule.budget and curve.collapsed[row] is None

    def strongest_kept(self, above: int) -> int:
        """The largest index under `above` that keeps the budget, by bisection.

        0 always does: it changes nothing, see `retained_ratio`.
        """
        low, high = 0, above
        while high - low > max(1, len(self.values) // 32):
            middle = (low + high) // 2
            low, high = (middle, high) if self.within_budget(middle) else (low, middle)
        return low


def _trade_off(curve: StrengthCurve, strength: float, rule: StrengthRule, note: str) -> TradeOff:
    row = curve.strengths.index(strength)
    worst = curve.worst(row, rule.z)
    rate, high = (worst.rate, worst.high) if worst else (math.nan, 1.0)
    return TradeOff(strength, rate, high, curve.retained_ratio(row), note)


def _nearest(search: _Search, end: int) -> tuple[TradeOff, ...]:
    """The two ends of the infeasible gap: target met, or budget kept."""
    probe = min(search.config.probe, len(search.config.seeds))
    kept = end if search.within_budget(end) else search.strongest_kept(end)
    for index in {end, kept}:
        search.draw(index, range(search.measure.trigger_count), probe)
    curve, values = search.curve(), search.values
    return (
        _trade_off(curve, values[kept], search.rule, "strongest found within the retained budget"),
        _trade_off(curve, values[end], search.rule, "weakest found to suppress, or the strongest"),
    )


def _check_base(search: _Search) -> None:
    search.keep(0)
    if not any(any(cell) for cell in search.kept.values()):
        raise JudgeError(
            "retained prompts: the judge sees none of their concepts in the base model's pictures; "
            "check the judge and the concept named for each prompt"
        )


def _chosen(search: _Search, end: int | None) -> Choice:
    """The rule's choice; a collapse that stopped the search early is named as the reason."""
    broken = None if end is None else search.collapsed(end)
    if end is None or broken is None:
        return choose_strength(search.curve(), search.rule)
    return infeasible(
        f"pictures are broken from {search.values[end]:g} on ({broken}), and weaker ones do not "
        "suppress every trigger"
    )


def find_strength(
    measure: Measurement,
    config: SearchConfig | None = None,
    progress: Progress = quiet,
) -> StrengthChoice:
    """Search the grid for the smallest strength that meets the rule; never raises for "none".

    Raises ConfigError without triggers or retained prompts, JudgeError when the judge sees no
    trigger, or no retained concept, on the base model.
    """
    config = config or SearchConfig()
    if measure.trigger_count < 1 or measure.prompt_count < 1:
        raise ConfigError(
            "strength search: expected one or more triggers and retained prompts, got "
            f"{measure.trigger_count} and {measure.prompt_count}"
        )
    search = _Search(measure, config, progress)
    guess = config.grid.nearest(config.guess)
    _check_base(search)
    end = search.settle(guess)
    if not any(sum(cell) for (i, _), cell in search.hits.items() if i == 0):
        raise JudgeError(
            "triggers: this judge cannot see the concept; it did not fire on one base picture of "
            f"{measure.trigger_count} triggers"
        )
    if end is not None:
        search.keep(end)
    chosen = _chosen(search, end)
    last = len(config.grid.values) - 1 if end is None else end
    tradeoffs = () if chosen.feasible else _nearest(search, last)
    curve = search.curve()
    row = curve.strengths.index(config.grid.values[last])
    n, p = measure.trigger_count, measure.prompt_count
    z = search.rule.z
    return StrengthChoice(
        strength=chosen.strength,
        feasible=chosen.feasible,
        reason=chosen.reason,
        curve=curve,
        tuning=rate_rows(curve.hits[row], curve.draws[row], z),
        retained=rate_rows(curve.retained_hits[row], curve.retained_draws[row], z),
        retained_base=rate_rows(curve.retained_hits[0], curve.retained_draws[0], z),
        tradeoffs=tradeoffs,
        images_drawn=search.images(),
        full_grid_images=grid_images(
            config.grid, n, len(config.seeds), p, len(config.retained_seeds)
        ),
        confirmations=search.confirmations,
        rule=search.rule,
        seeds=config.seeds,
        retained_seeds=config.retained_seeds,
    )
