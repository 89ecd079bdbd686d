"""When steps end, how much memory they take at most, and what is trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from bench.peak_memory import forget_peak, peak_bytes


class EnoughError(Exception):
    """As many steps as asked for were timed; raised by the clock, out of the contender's loop."""


class StepClock:
    """Told of the end of every step; those after the first count.

    trained: weights that the optimizers move.
    """

    def __init__(self, timed: int):
        self._timed, self._peak = timed, None
        self._ends, self._worked = list[float](), list[float]()
        self._trained: dict[int, int] = {}

    def ended(self) -> None:
        self._ends.append(time.perf_counter())
        self._worked.append(time.process_time())
        if len(self._ends) == 1:
            forget_peak()
        if len(self._ends) > self._timed:
            self._peak = peak_bytes()
            raise EnoughError

    def on_bar(self, value: int, total: int, preview: Any, node_id: Any = None) -> None:
        """ComfyUI's hook for progress bars: `value` steps are done."""
        if value > len(self._ends):
            self.ended()

    @contextmanager
    def running(self) -> Iterator[None]:
        """A loop that is left when enough steps were timed."""

        def seen(optimizer: Optimizer, *_: Any) -> None:
            for group in optimizer.param_groups:
                self._trained |= {id(p): p.numel() for p in group["params"]}

        handle = register_optimizer_step_post_hook(seen)
        try:
            yield
        except EnoughError:
            return
        finally:
            handle.remove()
        raise RuntimeError(f"the loop ended after {len(self._ends)} steps, before the clock did")

    def report(self) -> dict[str, Any]:
        """Of each step its seconds, and those of all cores; the peak; how much is trained."""
        steps = {"seconds": self._ends, "processor_seconds": self._worked}
        return {
            **{name: [b - a for a, b in pairwise(ends)] for name, ends in steps.items()},
            "peak_bytes": self._peak,
            "trained": sum(self._trained.values()),
        }


def endless(step: Callable[[], None], clock: StepClock) -> dict[str, Any]:
    """The clock's report of a loop of our own."""
    with clock.running():
        while True:
            step()
            clock.ended()
    return clock.report()
