from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from host_support.fakes_choose import (
    Planted,
    Scale,
    falling,
    one_hot,
)
from tverase_core.errors import (
    ConfigError,
    JudgeError,
    NonFiniteError,
    StrengthError,
)
from tverase_core.ports import Context
from tverase_core.strength.choice import NoFeasibleStrengthError, SearchConfig
from tverase_core.strength.curve import (
    StrengthCurve,
    StrengthGrid,
    StrengthRule,
    choose_strength,
    grid_images,
)
from tverase_core.strength.measurement import ModelMeasurement
from tverase_core.strength.search import find_strength
from tverase_core.strength.verify import verify

GRID = StrengthGrid.even(0.05, 3.0)
COARSE = StrengthGrid.even(0.25, 3.0)
CONFIG = SearchConfig(grid=GRID)
KEEPS = [falling(2.8, 0.08)] * 6


def first_passing(measure: Planted, config: SearchConfig) -> float:
    """What a full grid finds, by drawing every cell."""
    limit = config.rule.most_hits(len(config.seeds))
    failing = -1
    for i, alpha in enumerate(config.grid.values):
        hits = [
            sum(measure.trigger_hits(alpha, [(j, seed) for seed in config.seeds]))
            for j in range(measure.trigger_count)
        ]
        failing = i if max(hits) > limit else failing
    return config.grid.values[failing + 1]


def test_grid_starts_at_zero_and_rises() -> None:
    assert StrengthGrid.even(0.5, 1.2).values == (0.0, 0.5, 1.0)
    assert len(GRID.values) == 61
    for values in [(0.1, 0.2), (0.0,), (0.0, 1.0, 1.0), (0.0, float("inf"))]:
        with pytest.raises(StrengthError):
            StrengthGrid(values)
    with pytest.raises(StrengthError):
        StrengthGrid.even(0.0, 1.0)


def test_rule_knows_how_many_hits_are_too_many() -> None:
    rule = StrengthRule(target=0.15, z=1.645)
    assert rule.upper(0, 24) == pytest.approx(1.645**2 / (24 + 1.645**2))
    assert [rule.most_hits(n) for n in (8, 24, 40)] == [-1, 0, 2]
    assert rule.most_hits(rule.least_draws()) == 0
    assert rule.most_hits(rule.least_draws() - 1) == -1
    with pytest.raises(ConfigError, match=r"target.*budget"):
        StrengthRule(target=0, budget=2)


def test_too_few_seeds_for_the_target_are_refused_with_the_number_needed() -> None:
    with pytest.raises(ConfigError, match="at least 16"):
        SearchConfig(seeds=tuple(range(10)))
    with pytest.raises(ConfigError, match="distinct"):
        SearchConfig(seeds=(1,) * 30)


@pytest.mark.parametrize("z", [0.0, 0.5, 1.0, 1.645, 2.0, 3.0, 8.0])
def test_the_fewest_draws_are_told_at_once_for_any_target(z: float) -> None:
    for target in (0.9, 0.5, 0.3, 0.2, 0.1, 1e-3, 1e-6, 1e-9):
        rule = StrengthRule(target=target, z=z)
        draws = rule.least_draws()
        assert rule.upper(0, draws) <= target
        assert draws == 1 or rule.upper(0, draws - 1) > target
    assert StrengthRule(target=5e-324, z=8.0).least_draws() > 10**300
    with pytest.raises(ConfigError, match="at least 2706023"):
        SearchConfig(rule=StrengthRule(target=1e-6))


def test_a_z_beyond_what_float64_can_tell_is_refused() -> None:
    for value in (9.0, -0.1, math.nan, math.inf):
        with pytest.raises(ConfigError, match=r"^z: expected 0 to 8, got"):
            StrengthRule(z=value)


@pytest.mark.parametrize("middle", [0.3, 0.9, 1.3, 1.9])
@pytest.mark.parametrize("count", [1, 5])
def test_planted_optimum_is_found_exactly_when_hits_are_monotone(middle: float, count: int) -> None:
    triggers = [falling(middle - 0.05 * j, 0.02) for j in range(count)]
    choice = find_strength(Planted(triggers, KEEPS, coupled=True), CONFIG)
    truth = first_passing(Planted(triggers, KEEPS, coupled=True), CONFIG)
    assert choice.feasible
    assert choice.strength == truth
    assert choice.required() == pytest.approx(middle, abs=0.2)
    assert all(row.draws == 24 and row.high <= 0.15 for row in choice.tuning)
    assert len(choice.tuning) == count


@pytest.mark.parametrize("salt", range(5))
def test_with_independent_noise_the_true_rate_at_the_choice_is_low(salt: int) -> None:
    triggers = [falling(1.0 + 0.1 * j, 0.1) for j in range(8)]
    measure = Planted(triggers, KEEPS, salt=salt)
    choice = find_strength(measure, CONFIG)
    strength = choice.required()
    assert max(curve(strength) for curve in triggers) < 0.15
    assert strength < 2.6
    assert choice.confirmations >= 1


@pytest.mark.parametrize("grid", [GRID, COARSE])
@pytest.mark.parametrize("middle", [0.5, 1.2, 1.8])
def test_at_most_a_third_of_the_pictures_of_an_equal_grid(
    grid: StrengthGrid, middle: float
) -> None:
    measure = Planted([falling(middle - 0.05 * j, 0.08) for j in range(10)], KEEPS)
    choice = find_strength(measure, replace(CONFIG, grid=grid))
    assert choice.feasible
    assert choice.images_drawn == measure.images_drawn
    assert choice.full_grid_images == grid_images(grid, 10, 24, 6, 8)
    assert choice.images_drawn <= choice.full_grid_images / 3


def test_the_whole_search_is_repeatable() -> None:
    triggers = [falling(1.0), falling(1.2)]
    first, second = (find_strength(Planted(triggers, KEEPS), CONFIG) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("guess", [0.35, 2.15])
def test_the_guess_is_the_first_strength_that_is_tried(guess: float) -> None:
    tried: list[float] = []

    class Noted(Planted):
        def trigger_hits(self, strength: float, cells: Sequence[tuple[int, int]]) -> list[bool]:
            tried.append(strength)
            return super().trigger_hits(strength, cells)

    find_strength(Noted([falling(1.0)], KEEPS), replace(CONFIG, guess=guess))
    assert list(dict.fromkeys(tried))[:2] == [0.0, guess]


def test_infeasible_when_the_budget_breaks_before_the_target_is_met() -> None:
    choice = find_strength(Planted([falling(2.0)], [falling(1.0)] * 6), CONFIG)
    assert not choice.feasible
    assert choice.strength is None
    assert all(row.draws == 8 for row in (*choice.retained, *choice.retained_base))
    assert "no feasible strength" in choice.reason
    assert "budget 0.9" in choice.reason
    kept, erased = choice.tradeoffs
    assert kept.strength < 1.0 < 2.0 <= erased.strength
    assert kept.retained_ratio is not None
    assert kept.retained_ratio >= 0.9
    assert kept.worst_rate > 0.5
    assert erased.retained_ratio == 0
    with pytest.raises(NoFeasibleStrengthError) as caught:
        choice.required()
    assert caught.value.curve == choice.curve
    assert caught.value.tradeoffs == choice.tradeoffs


def test_infeasible_when_a_trigger_survives_the_whole_grid() -> None:
    choice = find_strength(Planted([falling(1.0), falling(99)], KEEPS), CONFIG)
    assert not choice.feasible
    assert "up to 3 some trigger" in choice.reason
    assert choice.tradeoffs[1].strength == 3.0
    assert choice.tradeoffs[1].worst_rate > 0.5


def test_the_collapse_guard_bounds_the_search() -> None:
    broken = find_strength(Planted([falling(2.0)], KEEPS, collapse_from=1.5), CONFIG)
    assert not broken.feasible
    assert "broken from 1.5" in broken.reason
    assert 1.0 < broken.tradeoffs[0].strength < 1.5  # no broken strength keeps the budget
    assert max(broken.curve.strengths) <= 3.0
    fine = find_strength(Planted([falling(1.0)], KEEPS, collapse_from=1.5), CONFIG)
    assert fine.feasible


@pytest.mark.parametrize("guess", [0.0, 0.5, 0.6, 1.0, 1.35, 1.4, 1.5, 2.2, 3.0])
def test_broken_pictures_do_not_make_the_answer_depend_on_the_guess(guess: float) -> None:
    """Seen below 0.6, gone from there on; from 1.4 on the judge sees it in broken pictures."""

    def seen(alpha: float) -> float:
        return 0.0 if 0.6 <= alpha < 1.4 else 0.95

    measure = Planted([seen], [lambda a: 1.0], collapse_from=1.4)
    choice = find_strength(measure, replace(CONFIG, guess=guess))
    assert (choice.strength, choice.feasible) == (0.6, True)


def test_a_blind_judge_is_refused() -> None:
    with pytest.raises(JudgeError, match="cannot see the concept"):
        find_strength(Planted([lambda a: 0.0], KEEPS), CONFIG)
    with pytest.raises(JudgeError, match="retained"):
        find_strength(Planted([falling(1.0)], [lambda a: 0.0]), CONFIG)
    with pytest.raises(ConfigError, match="one or more triggers"):
        find_strength(Planted([], KEEPS), CONFIG)


def test_cancelling_goes_through() -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int, message: str) -> None:
        assert 0 <= done <= total
        if done > 60:
            raise StopError

    with pytest.raises(StopError):
        find_strength(Planted([falling(1.0)] * 4, KEEPS), CONFIG, progress=stop)


def test_verification_is_on_other_seeds_and_reports_the_base_too() -> None:
    choice = find_strength(Planted([falling(1.0)], KEEPS), CONFIG)
    held_out = Planted([falling(1.0), falling(0.9)], KEEPS, salt=9)
    checked = verify(choice, held_out, range(30), range(8)).verification
    assert checked is not None
    assert checked.passed == (checked.worst_high <= 0.15 and checked.retained_ratio >= 0.9)
    assert checked.mean_hit < 0.1
    assert all(row.draws == 30 for row in checked.triggers)
    assert all(row.draws == 8 and row.rate > 0.7 for row in checked.triggers_base)
    assert checked.images_drawn == 2 * (30 + 8) + 2 * 6 * 8
    failed = verify(choice, Planted([falling(9)], KEEPS), range(30), range(8)).verification
    assert failed is not None
    assert not failed.passed
    with pytest.raises(ConfigError, match="tuning did not use"):
        verify(choice, held_out, choice.seeds[:3], range(8))


def test_verification_judges_the_upper_bound_not_the_rate() -> None:
    """2 hits in 30 are a rate of 0.067, under the target of 0.15, and a bound of 0.183, over it."""

    class Twice(Planted):
        def trigger_hits(self, strength: float, cells: Sequence[tuple[int, int]]) -> list[bool]:
            return [strength == 0 or seed < 2 for _, seed in cells]

    sure = [lambda a: 1.0] * 6
    choice = find_strength(Planted([falling(1.0)], sure), CONFIG)
    checked = verify(choice, Twice([falling(1.0)], sure), range(30), range(8)).verification
    assert checked is not None
    assert checked.worst_rate == pytest.approx(2 / 30)
    assert checked.worst_high == pytest.approx(0.183, abs=1e-3)
    assert not checked.passed
    enough = verify(choice, Twice([falling(1.0)], sure), range(60), range(100, 108)).verification
    assert enough is not None
    assert enough.passed


def test_one_bad_trigger_is_told_by_its_row_and_fails_the_check() -> None:
    class Second(Planted):
        def trigger_hits(self, strength: float, cells: Sequence[tuple[int, int]]) -> list[bool]:
            return [strength == 0 or (row == 1 and seed < 15) for row, seed in cells]

    sure = [lambda a: 1.0] * 6
    choice = find_strength(Planted([falling(1.0)], sure), CONFIG)
    triggers = [falling(1.0)] * 3
    checked = verify(choice, Second(triggers, sure), range(30), range(8)).verification
    assert checked is not None
    assert [row.rate for row in checked.triggers] == [0.0, 0.5, 0.0]
    assert checked.mean_hit == pytest.approx(0.5 / 3)
    assert not checked.passed


def test_the_retained_rate_of_a_check_is_relative_to_the_unedited_models() -> None:
    """The same six of ten at any strength are all that the base has."""
    choice = find_strength(Planted([falling(1.0)], [lambda a: 1.0]), CONFIG)
    held_out = Planted([falling(0.5)], [lambda a: 0.6] * 6, coupled=True)
    checked = verify(choice, held_out, range(30), range(8)).verification
    assert checked is not None
    assert 0.4 < sum(row.rate for row in checked.retained) / 6 < 0.8
    assert checked.retained_ratio == 1
    assert checked.passed
    fading = Planted([falling(0.5)], [lambda a: 0.0 if a else 1.0, lambda a: 1.0])
    failed = verify(choice, fading, range(30), range(8)).verification
    assert failed is not None
    assert (failed.retained_ratio, failed.passed) == (0.5, False)


def test_a_check_with_broken_pictures_does_not_pass() -> None:
    sure = [lambda a: 1.0] * 6
    choice = find_strength(Planted([falling(1.0)], sure), CONFIG)
    broken = Planted([falling(0.5)], sure, collapse_from=choice.required())
    checked = verify(choice, broken, range(30), range(8)).verification
    assert checked is not None
    assert (checked.collapsed, checked.passed) == ("noise", False)


def test_verification_counts_no_picture_twice() -> None:
    choice = find_strength(Planted([falling(1.0)], KEEPS), CONFIG)
    held_out = Planted([falling(1.0)], KEEPS, salt=9)
    for seeds, retained in ((range(30), [7] * 8), ([7] * 30, range(8)), (range(30), [])):
        with pytest.raises(ConfigError, match="expected distinct seeds"):
            verify(choice, held_out, seeds, retained)
    assert held_out.images_drawn == 0


def curve_of(
    hits: Sequence[int], kept: Sequence[int], draws: int = 40, collapsed: str | None = None
) -> StrengthCurve:
    m = len(hits)
    return StrengthCurve(
        tuple(0.5 * i for i in range(m)),
        tuple((h,) for h in hits),
        ((draws,),) * m,
        tuple((k,) for k in kept),
        ((10,),) * m,
        (None,) * (m - 1) + (collapsed,),
    )


def test_choose_strength_is_a_pure_rule_on_the_curve() -> None:
    rule = StrengthRule()
    chosen = choose_strength(curve_of([40, 20, 1, 0], [10, 10, 9, 7]), rule)
    assert (chosen.strength, chosen.feasible) == (1.0, True)
    lucky = choose_strength(curve_of([40, 0, 9, 0], [10, 10, 10, 10]), rule)
    assert lucky.strength == 1.5
    assert not choose_strength(curve_of([40, 20, 1, 0], [10, 10, 8, 7]), rule).feasible
    assert not choose_strength(curve_of([40, 20, 9, 9], [10, 10, 9, 9]), rule).feasible
    broken = choose_strength(curve_of([40, 9, 9, 0], [10, 9, 9, 9], collapsed="black"), rule)
    assert "black" in broken.reason
    seen_again = choose_strength(curve_of([40, 9, 0, 40], [10, 10, 10, 0], collapsed="noise"), rule)
    assert (seen_again.strength, seen_again.feasible) == (1.0, True)


def test_curve_marks_what_was_not_measured() -> None:
    curve = StrengthCurve(
        (0.0, 1.0), ((4, 3), (0, 0)), ((4, 4), (4, 0)), ((2,), (0,)), ((2,), (0,)), (None, "noise")
    )
    assert curve.target[1].isnan().tolist() == [False, True]
    assert curve.target.dtype == torch.float64
    assert curve.retained_ratio(0) == 1.0
    assert curve.retained_ratio(1) is None
    worst = curve.worst(0, 1.645)
    assert worst is not None
    assert worst.index == 0
    with pytest.raises(ConfigError):
        StrengthCurve((1.0, 0.5), ((), ()), ((), ()), ((), ()), ((), ()), (None, None))


def test_a_trigger_that_was_hardly_drawn_is_not_suppressed() -> None:
    """No hit in 4 pictures may still be a rate of 0.4."""
    curve = StrengthCurve(
        (0.0, 1.0, 2.0),
        ((40, 40), (0, 0), (0, 0)),
        ((40, 40), (40, 4), (40, 40)),
        ((10,),) * 3,
        ((10,),) * 3,
        (None,) * 3,
    )
    assert choose_strength(curve, StrengthRule()).strength == 2.0


def test_the_budget_is_a_share_of_what_the_base_keeps() -> None:
    """6 of 10 are all that the base has; 5 of them are 0.83, under 0.9."""
    for kept, feasible in (([6, 6, 6], True), ([6, 6, 5], False)):
        assert choose_strength(curve_of([40, 20, 1], kept), StrengthRule()).feasible == feasible


class Painter:
    """Half red, half grey; the red is `1 + scale` for context 0 and always there for others."""

    def __init__(self, attachment: Scale):
        self.attachment, self.drawn, self.scales = attachment, 0, set[float]()

    def images(self, context: Context, seeds: Sequence[int]) -> Tensor:
        assert len(context.tokens) == len(seeds)
        self.drawn += len(seeds)
        self.scales.add(self.attachment.scale)
        made = torch.full((len(seeds), 8, 8, 3), 0.2)
        for i in range(len(seeds)):
            edited = bool(context.tokens[i, 0, 0] > 0)
            scale = self.attachment.scale if edited else 0.0
            made[i, :, :4, 0] = 1 + 0.5 * scale if scale > -1.9 else float("nan")
            made[i, :, 4:, 1] = 0.9
        return made


class RedJudge:
    def score(self, images: Tensor, concept: str) -> Tensor:
        assert images.isfinite().all()
        return (images[:, :, :4, 0].mean((1, 2)) - 0.1).clamp(0, 1)


def painted() -> tuple[Painter, ModelMeasurement]:
    attachment = Scale()
    painter = Painter(attachment)
    measure = ModelMeasurement(
        attachment, painter, RedJudge(), "red", one_hot(0), one_hot(1, 2), ["red", "red"]
    )
    return painter, measure


def test_the_model_adapter_caches_and_sets_one_scale() -> None:
    painter, measure = painted()
    assert measure.trigger_hits(0.0, [(0, 1), (0, 2)]) == [True, True]
    assert measure.trigger_hits(1.5, [(0, 1), (0, 2), (0, 3)]) == [False] * 3
    assert measure.trigger_hits(1.5, [(0, 3), (0, 2), (0, 4)]) == [False] * 3
    assert painter.drawn == measure.images_drawn == 6
    assert painter.scales == {0.0, -1.5}
    assert measure.retained_hits(1.5, [(1, 1), (0, 1)]) == [True, True]
    assert measure.collapse(1.5) is None
    assert measure.trigger_hits(2.0, [(0, 1)]) == [False]
    assert measure.collapse(2.0) == "trigger pictures are not finite"
    with pytest.raises(ConfigError, match="one concept a retained prompt"):
        ModelMeasurement(Scale(), painter, RedJudge(), "red", one_hot(0), one_hot(1), [])


def test_each_retained_prompt_is_judged_by_its_own_concept() -> None:
    class OnlyBlue:
        def score(self, images: Tensor, concept: str) -> Tensor:
            return torch.full((len(images),), float(concept == "blue"))

    attachment = Scale()
    contexts = one_hot(0), one_hot(1, 2, 3), ["red", "blue", "red"]
    measure = ModelMeasurement(attachment, Painter(attachment), OnlyBlue(), "red", *contexts)
    assert measure.retained_hits(0.0, [(0, 1), (1, 1), (2, 1)]) == [False, True, False]
    assert measure.trigger_hits(0.0, [(0, 1)]) == [False]


def test_the_guard_says_from_which_strength_retained_pictures_are_broken() -> None:
    """Every retained picture loses its contrast with the strength; at 1 it is one grey."""

    class Fading:
        def images(self, context: Context, seeds: Sequence[int]) -> Tensor:
            made = torch.full((len(seeds), 8, 8, 3), 0.5)
            made[:, :, :4] += 0.4 * (1 + attachment.scale)
            return made

    attachment = Scale()
    contexts = one_hot(0), one_hot(1, 2), ["red", "red"]
    measure = ModelMeasurement(attachment, Fading(), RedJudge(), "red", *contexts)
    cells = [(0, 1), (1, 1)]
    measure.retained_hits(1.0, cells)
    assert measure.collapse(1.0) is None  # no picture of the base to compare with yet
    for strength in (0.0, 0.5, 0.9):
        measure.retained_hits(strength, cells)
    assert measure.collapse(0.0) is None
    assert measure.collapse(0.5) is None
    assert measure.collapse(0.9) == "2 of 2 retained pictures are broken: vanishing variance"
    assert measure.collapse(1.0) == "2 of 2 retained pictures are broken: constant"


@pytest.mark.parametrize("unsure", [math.nan, math.inf])
def test_a_judge_without_an_answer_erases_nothing(unsure: float) -> None:
    class Unsure(RedJudge):
        def score(self, images: Tensor, concept: str) -> Tensor:
            scores = super().score(images, concept)
            return torch.where(scores < 0.8, unsure, scores)

    attachment = Scale()
    contexts = one_hot(0), one_hot(1, 2), ["red", "red"]
    measure = ModelMeasurement(attachment, Painter(attachment), Unsure(), "red", *contexts)
    assert measure.trigger_hits(0.0, [(0, 1)]) == [True]
    with pytest.raises(NonFiniteError, match="NaN or infinity for 'red'"):
        find_strength(measure, CONFIG)


def test_pictures_drawn_together_change_the_price_and_not_the_answer() -> None:
    triggers = [falling(0.6), falling(1.1), falling(0.9), falling(1.4)] * 3
    found, batches = {}, {}
    for at_once in (1, 4, 32, 1000):
        measure = Counted(triggers, KEEPS, coupled=True)
        found[at_once] = find_strength(measure, replace(CONFIG, at_once=at_once))
        batches[at_once] = measure.batches
    assert len({choice.strength for choice in found.values()}) == 1
    assert batches[1] > batches[4] > 4 * batches[32] > 4 * batches[1000]
    assert found[1].images_drawn <= found[32].images_drawn < 1.5 * found[1].images_drawn


class Counted(Planted):
    """Counts how often it is asked for pictures."""

    batches = 0

    def trigger_hits(self, strength: float, cells: Sequence[tuple[int, int]]) -> list[bool]:
        self.batches += 1
        return super().trigger_hits(strength, cells)


def test_search_through_the_model_adapter() -> None:
    painter, measure = painted()
    choice = find_strength(measure, CONFIG)
    # score = 0.9 - 0.5 alpha, so hits end just above 0.8.
    assert choice.strength == pytest.approx(0.85, abs=0.051)
    assert painter.drawn == choice.images_drawn
