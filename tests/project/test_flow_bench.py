"""`bench flow`: what is run, in which order, and how figures come from finished tasks."""

from __future__ import annotations

from typing import Any

import pytest

from bench.flow_parts.kept import TASKS
from bench.flow_parts.running import ordered, with_needs
from bench.flow_parts.settings import FULL, SMOKE
from bench.flow_parts.summary import by_kind, evidence


def attack(hits: int, *, valid: bool = True) -> dict[str, Any]:
    return {"hits": [hits], "draws": 32, "valid": [valid], "strength": 1.0}


def run(base: int, tv: int, *, valid: bool = True) -> dict[str, Any]:
    return {"attack-base": attack(base, valid=valid), "attack-tv": attack(tv, valid=True)}


def test_every_task_comes_after_what_it_needs() -> None:
    keys = ordered(TASKS, ["cat", "ink"], range(2))
    assert len(keys) == len(set(keys)) == 4 * len(TASKS)
    for concept, seed, task in keys:
        *earlier, last = with_needs(task)
        assert last == task
        places = [keys.index((concept, seed, other)) for other in [*earlier, task]]
        assert places == sorted(places)
    assert {(concept, seed) for concept, seed, _ in keys[: len(TASKS)]} == {("cat", 0)}


def test_only_what_a_part_asks_for_is_run() -> None:
    tasks = [task for _, _, task in ordered(["attack-base", "attack-esd"], ["cat"], [0])]
    assert tasks == ["attack-base", "triggers", "esd", "attack-esd"]


def test_attacks_that_fail_on_the_base_do_not_count() -> None:
    figures = evidence([run(32, 8), run(24, 0), run(3, 32, valid=False)])
    leak = figures["flow_attack_tv"]
    assert (leak.value, leak.n) == (0.125, 64)
    assert leak.interval is not None
    assert leak.interval[0] < 0.125 < leak.interval[1]
    assert figures["flow_attack_tv_on_base"].value == 0.875
    assert (figures["flow_attack_tv_invalid"].value, figures["flow_attack_tv_invalid"].n) == (1, 3)


def test_no_valid_attack_gives_no_figure() -> None:
    figures = evidence([run(0, 0, valid=False)])
    assert figures["flow_attack_tv"].value is None
    assert "works on the base" in (figures["flow_attack_tv"].reason or "")


@pytest.mark.parametrize("runs", [[run(32, 0)], [run(32, 0), run(32, 0)]])
def test_runs_that_all_say_nothing_leaked_are_not_taken_for_certain(runs: list[Any]) -> None:
    low, high = evidence(runs)["flow_attack_tv"].interval or (0, 0)
    assert low == 0
    assert 0.03 < high < 0.2


def test_objects_and_styles_are_pooled_apart() -> None:
    figures = by_kind({("cat", 0): run(32, 0), ("car", 0): run(32, 8), ("ink", 0): run(32, 32)})
    assert figures["flow_attack_tv_objects"].value == 0.125
    assert figures["flow_attack_tv_style"].value == 1.0
    assert (figures["flow_attack_tv_objects"].n, figures["flow_attack_tv_style"].n) == (64, 32)


def test_a_distillate_is_told_unedited_and_at_both_strengths() -> None:
    def counts(held_out: int, retained: int) -> dict[str, Any]:
        return {"held_out": [[held_out, 16]], "retained": [[retained, 24]]}

    same = {"strength": 1.0, "base": counts(16, 24), "counts": counts(4, 18)}
    figures = evidence(
        [{"few_step": {**same, "least": {"strength": 2.0, "counts": counts(0, 12)}}}]
    )
    told = {name.removeprefix("few_step_"): figure.value for name, figure in figures.items()}
    assert told == {
        "base_hit": 1.0,
        "strength": 1.0,
        "left": 0.25,
        "kept": 0.75,
        "least_strength": 2.0,
        "least_left": 0.0,
        "least_kept": 0.5,
    }


def test_a_half_finished_run_gives_the_figures_that_it_has() -> None:
    assert evidence([{"attack-base": attack(32)}]) == {}


def test_a_result_counts_only_with_the_numbers_it_came_from() -> None:
    assert FULL.attack_steps * FULL.attack_pictures == 24_000
    assert FULL.digest("cat") not in (SMOKE.digest("cat"), FULL.digest("car"))
