"""Several strength searches over the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class SharedMeasurement:
    """The triggers `rows` of a measurement that others search through as well.

    The measurement keeps its answers, so what one search drew costs another nothing.
    `images_drawn` counts what this search asked for, as if it had been alone.
    """

    def __init__(self, measurement: Any, rows: Sequence[int]):
        self._measurement, self._rows = measurement, tuple(rows)
        self._asked: set[tuple[str, float, int, int]] = set()

    @property
    def trigger_count(self) -> int:
        return len(self._rows)

    @property
    def prompt_count(self) -> int:
        return int(self._measurement.prompt_count)

    @property
    def images_drawn(self) -> int:
        return len(self._asked)

    def trigger_hits(self, strength: float, cells: Sequence[tuple[int, int]]) -> list[bool]:
        self._asked |= {("trigger", strength, *cell) for cell in cells}
        shared = [(self._rows[row], seed) for row, seed in cells]
        hits: list[bool] = self._measurement.trigger_hits(strength, shared)
        return hits

    def retained_hits(self, strength: float, cells: Sequence[tuple[int, int]]) -> list[bool]:
        self._asked |= {("retained", strength, *cell) for cell in cells}
        hits: list[bool] = self._measurement.retained_hits(strength, cells)
        return hits

    def collapse(self, strength: float) -> str | None:
        reason: str | None = self._measurement.collapse(strength)
        return reason
