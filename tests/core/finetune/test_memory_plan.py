"""The count of a fine-tune's memory, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tverase_core.finetuning.config import FinetuneConfig
from tverase_core.finetuning.memory_plan import Activations, memory_plan

SHAPES = {"a": (10, 10), "b": (5,)}  # 105 values
CONFIG = FinetuneConfig(steps=5, batch_size=4, accumulation=2)
PASS = Activations(whole=9000, outline=1000, largest_block=2000)


def test_every_part_by_hand() -> None:
    """Four bytes a value; AdamW's two moments; weight, delta and sum of the largest weight."""
    plan = memory_plan(SHAPES, CONFIG, PASS, recompute=False)
    assert dict(plan.parts) == {
        "learned": 4 * 105,
        "moments": 8 * 105,
        "gradients and activations": 4 * 105 + 9000,
        "workspace": 3 * 4 * 100,
    }
    assert plan.device == sum(plan.parts.values())
    assert (plan.average, plan.result, plan.host) == (4 * 105, 0, 4 * 105)


def test_recomputation_keeps_the_outline_and_one_block() -> None:
    plan = memory_plan(SHAPES, CONFIG, PASS, recompute=True)
    assert plan.parts["gradients and activations"] == 4 * 105 + 1000 + 2000


@pytest.mark.parametrize(("optimizer", "moments"), [("adamw", 8), ("adamw8bit", 2)])
def test_moments_by_optimizer(optimizer: str, moments: int) -> None:
    plan = memory_plan(SHAPES, replace(CONFIG, optimizer=optimizer), PASS, False)
    assert plan.parts["moments"] == moments * 105


def test_a_rank_learns_two_thin_matrices_and_gives_a_dense_result() -> None:
    plan = memory_plan(SHAPES, replace(CONFIG, rank=2), PASS, False)
    assert plan.parts["learned"] == 4 * (10 * 2 + 2 * 10)
    assert (plan.average, plan.result) == (4 * 40, 4 * 100)


def test_without_an_average_the_result_lies_beside_the_model() -> None:
    plan = memory_plan(SHAPES, replace(CONFIG, ema=False), PASS, False)
    assert (plan.average, plan.result) == (0, 4 * 105)


@pytest.mark.parametrize(("stay", "busy"), [(False, 9000), (True, 4 * 105 + 9000)])
def test_gradients_of_one_part_take_the_place_of_activations_unless_they_stay(
    stay: bool, busy: int
) -> None:
    plan = memory_plan(SHAPES, replace(CONFIG, accumulation=1), PASS, False, stay)
    assert plan.parts["gradients and activations"] == busy
