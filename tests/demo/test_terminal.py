"""A server's messages as stages in the terminal: what is shown, and that it never falls silent."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from devtools.follow import STALLED_S, Follower
from devtools.messages import Message, decoded
from devtools.terminal import Terminal


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    """What is written, and the longest time between two writes."""

    def __init__(self, clock: Clock):
        super().__init__()
        self.clock, self.last, self.silence = clock, 0.0, 0.0

    def write(self, text: str) -> int:
        self.silence = max(self.silence, self.clock.now - self.last)
        self.last = self.clock.now
        return super().write(text)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def screen(clock: Clock) -> Screen:
    return Screen(clock)


def found(node: str, output: Mapping[str, Any], said: Sequence[str]) -> str:
    return " ".join([node, *output.get("text", ()), *said[-1:]])


def follower(screen: Screen, clock: Clock, bars: bool) -> Follower:
    labels = {"7": "learning it", "9": "measuring"}
    return Follower(Terminal(screen, bars, clock), labels, found)


def at(node: str | None) -> Message:
    return Message("executing", {"node": node, "prompt_id": "p"})


def progress(value: float, total: float, node: str = "7") -> Message:
    return Message("progress", {"value": value, "max": total, "node": node, "prompt_id": "p"})


def text(words: str, node: str = "7") -> Message:
    packed = len(node).to_bytes(4, "big") + node.encode() + words.encode()
    return decoded((3).to_bytes(4, "big") + packed)


def test_frames_are_read_as_the_server_packs_them() -> None:
    assert text("step 1\nmore") == Message("progress_text", {"node": "7", "text": "step 1\nmore"})
    frame = json.dumps({"type": "executing", "data": {"node": None, "prompt_id": "p"}})
    assert decoded(frame).ends("p")
    assert not decoded(frame).ends("q")
    assert not at("7").ends("p")
    assert decoded((1).to_bytes(4, "big") + b"jpeg") == Message("preview")
    assert not decoded('{"type": "status", "data": {}}').is_work


def test_plain_lines_name_each_stage_and_what_it_found(screen: Screen, clock: Clock) -> None:
    watch = follower(screen, clock, bars=False)
    watch(at("1"))
    watch(at("7"))
    for second in range(1, 13):
        clock.now = second
        watch(text(f"step {second} of 12, loss 0.5, {12 - second} s left"))
        watch(progress(second, 12))
    watch(Message("executed", {"node": "7", "output": {"text": ["learned"]}}))
    watch(at("9"))
    watch(at(None))
    assert screen.getvalue().splitlines() == [
        "  learning it ...",
        "  learning it: step 5 of 12, loss 0.5, 7 s left, 5 s so far",
        "  learning it: step 10 of 12, loss 0.5, 2 s left, 10 s so far",
        "  learning it: 7 learned step 12 of 12, loss 0.5, 0 s left (12 s)",
        "  measuring ...",
        "  measuring: 9 (0 s)",
    ]


@pytest.mark.parametrize("bars", [False, True])
def test_it_is_never_silent_for_ten_seconds(screen: Screen, clock: Clock, bars: bool) -> None:
    """Neither in a stage that tells nothing, nor between stages, nor while the server is stuck."""
    watch = follower(screen, clock, bars)
    for node in ("7", "1", "9"):
        watch(at(node))
        for _ in range(400):
            clock.now += 1
            watch(None)
    assert 0 < screen.silence < 10
    assert watch.terminal.longest_silence == screen.silence


def test_a_stuck_server_is_told_and_waited_for(screen: Screen, clock: Clock) -> None:
    watch = follower(screen, clock, bars=False)
    watch(at("7"))
    for _ in range(int(2.5 * STALLED_S)):
        clock.now += 1
        watch(Message("status", {}))  # an idle server says this too
    told = [line for line in screen.getvalue().splitlines() if "nothing has moved" in line]
    assert len(told) == 2
    assert told[0].startswith("  nothing has moved for 5 minutes; ComfyUI still runs")
    watch(progress(1, 2))
    clock.now += STALLED_S - 1
    watch(None)
    assert screen.getvalue().count("nothing has moved") == 2


def test_the_bar_moves_and_leaves_one_line(screen: Screen, clock: Clock) -> None:
    watch = follower(screen, clock, bars=True)
    watch(at("7"))
    watch(progress(0, 120))
    clock.now = 10
    watch(text("step 30 of 120, loss 0.25"))
    watch(progress(30, 120))
    shown = screen.getvalue().rpartition("\r")[2]
    assert "learning it |" in shown
    assert "25%, step 30 of 120, loss 0.25, 30 s left, 10 s so far" in shown
    watch(at(None))
    last = screen.getvalue().rstrip("\n").rpartition("\r")[2]
    assert last == "  learning it: 7 step 30 of 120, loss 0.25 (10 s)"


def test_seconds_left_belong_to_the_pass_that_runs(screen: Screen, clock: Clock) -> None:
    """A search goes through several passes; the second does not take over the first's pace."""
    watch = follower(screen, clock, bars=False)
    watch(at("7"))
    clock.now = 100
    watch(progress(100, 100))
    watch(progress(0, 10))
    clock.now = 110
    watch(progress(5, 10))
    assert screen.getvalue().splitlines()[-1] == "  learning it: 10 s left, 110 s so far"


def test_a_pass_that_begins_in_the_middle_is_timed_from_there(screen: Screen, clock: Clock) -> None:
    """A fine-tune that goes on after a stop: 10 steps took 10 s, not 50."""
    watch = follower(screen, clock, bars=False)
    watch(at("7"))
    watch(progress(40, 100))
    clock.now = 10
    watch(progress(50, 100))
    assert screen.getvalue().splitlines()[-1] == "  learning it: 50 s left, 10 s so far"


def test_newer_messages_tell_the_same(screen: Screen, clock: Clock) -> None:
    watch = follower(screen, clock, bars=False)
    watch(at("7"))
    for clock.now, done in ((0.0, 0), (10.0, 5)):
        states = {"7": {"value": done, "max": 10, "state": "running"}, "1": {"value": 1, "max": 1}}
        watch(Message("progress_state", {"nodes": states}))
    assert screen.getvalue().splitlines()[-1] == "  learning it: 10 s left, 10 s so far"
