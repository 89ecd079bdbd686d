"""What `bench pace` makes of messages and of rounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.pace_parts.timed_client import NodeClock
from devtools.messages import Message

GRAPH = {
    "1": {"class_type": "TVEraseConceptFinetune"},
    "2": {"class_type": "KSampler"},
    "3": {"class_type": "KSampler"},
    "4": {"class_type": "SaveImage"},
    "5": {"class_type": "SaveImage"},
}


def clock_at(moments: list[float]) -> Iterator[float]:
    yield from moments


def test_time_goes_to_the_node_that_was_executing() -> None:
    seconds: dict[str, float] = defaultdict(float)
    moments = clock_at([0, 1, 5, 7, 10, 12, 13])
    clock = NodeClock(GRAPH, seconds, lambda: next(moments))
    for message in (
        None,
        Message("executing", {"node": "1"}),  # 1
        Message("progress", {"node": "1", "value": 1}),
        Message("executing", {"node": "2"}),  # 5
        Message("executing", {"node": "3"}),  # 7
        Message("executing", {"node": "4"}),  # 10
        Message("executed", {"node": "1"}),
        Message("executed", {"node": "4"}),  # 12
        Message("executed", {"node": "5"}),
        Message("executing", {"node": None}),  # 13
    ):
        clock(message)
    assert seconds == {"TVEraseConceptFinetune": 4, "KSampler": 5, "SaveImage": 3}
    assert clock.first_saved == 12


def test_figures_of_two_rounds() -> None:
    from bench.pace import pace_figures
    from bench.pace_parts.demos import DemoRun

    def outcome(value: float) -> dict[str, object]:
        return {"value": value, "n": 48, "interval": [0.0, 1.0]}

    before = DemoRun(
        400, 800, {"finetune": 200, "block_mask": 40}, 90, outcome(0.02), outcome(0.9), None
    )
    after = DemoRun(200, 300, {"finetune": 100}, 45, outcome(0.04), outcome(0.95), 7.0)
    slower = replace(
        after, seconds=320, target_hit_after=outcome(0.08), retained_ratio=outcome(0.91)
    )
    rounds = [{"before": before, "after": run} for run in (after, slower)]
    found = pace_figures(rounds)
    assert found["demo_time_ratio"].value == pytest.approx(0.65)  # the median of 0.5 and 0.8
    assert found["demo_time_ratio"].interval == (0.5, 0.8)
    assert found["demo_processor_time_ratio"].value == pytest.approx(0.375)
    assert (found["finetune_time_ratio"].value, found["block_mask_time_ratio"].value) == (0.5, 0)
    assert found["first_erased_picture_ratio"].value == 0.5
    # Outcomes are those of the worst round, so that no lucky one hides it.
    assert (found["demo_target_hit_after"].value, found["demo_retained_ratio"].value) == (
        0.08,
        0.91,
    )
    assert found["demo_retained_ratio_before"].value == 0.9
    assert found["silent_seconds_longest"].value == 7
