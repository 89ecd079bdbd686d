"""Leads wires around nodes: along lanes above the groups, and up and down between the columns.

The points are the frontend's own reroutes; they change how a link is drawn, nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

NEAR = 130  # a column at most so far to the right needs no lane above
LEVEL = 60  # a slot at most so much lower is met without a corner
APART, LANE = 11, 16  # between wires side by side, and between lanes


@dataclass
class Point:
    """A reroute; the links through it, by number."""

    id: int
    at: tuple[int, int]
    parent: Point | None
    links: list[int] = field(default_factory=list)

    def drawn(self) -> dict[str, Any]:
        own: dict[str, Any] = {"id": self.id, "pos": list(self.at), "linkIds": self.links}
        return {**own, **({"parentId": self.parent.id} if self.parent else {})}


@dataclass(frozen=True)
class End:
    """Where a link ends: its number, its node's left edge, the height of the slot, and a height
    above the node where nothing is."""

    link: int
    left: int
    height: int
    above: int


@dataclass
class Wires:
    """The reroutes of a graph, and by link the last one it passes. top: of the first lane."""

    top: int
    points: list[Point] = field(default_factory=list)
    last: dict[int, Point] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)  # places in lanes and gaps

    def lead(self, right: int, height: int, ends: Sequence[End]) -> None:
        """Links from a slot at a node's right edge."""
        near = [end for end in ends if 0 < end.left - right <= NEAR]
        same = [end for end in ends if end.left < right and end.height > height]
        far = sorted({end.left for end in ends if end not in near and end not in same})
        across = right + self._place(f"right of {right}", APART)
        self._beside((across, height), near)
        for end in same:
            down = self._point((across, end.above), self._point((across, height), None))
            back = end.left - self._place(f"left of {end.left}", APART)
            self._down(self._point((back, end.above), down), back, [end])
        lane = self.top + self._place("lanes", LANE) if far else 0
        trunk = self._point((across, lane), None) if far else None
        for left in far:
            down = left - self._place(f"left of {left}", APART)
            trunk = self._point((down, lane), trunk)
            column = [end for end in ends if end.left == left]
            self._down(trunk, down, sorted(column, key=lambda end: end.height))

    def _beside(self, corner: tuple[int, int], ends: Sequence[End]) -> None:
        """To a column next to the slot: straight where it is level, else up or down in the gap."""
        across, height = corner
        upper = sorted((e for e in ends if e.height < height), key=lambda end: -end.height)
        lower = sorted((e for e in ends if e.height > height + LEVEL), key=lambda end: end.height)
        if upper or lower:
            first = self._point(corner, None)
            self._down(first, across, upper)
            self._down(first, across, lower)

    def _down(self, point: Point, across: int, ends: Iterable[End]) -> None:
        for end in ends:
            point = self._point((across, end.height), point)
            self._pass(end.link, point)

    def _place(self, where: str, each: int) -> int:
        self.taken[where] += 1
        return each * self.taken[where]

    def _point(self, at: tuple[int, int], parent: Point | None) -> Point:
        self.points.append(Point(len(self.points) + 1, at, parent))
        return self.points[-1]

    def _pass(self, link: int, point: Point) -> None:
        self.last[link] = point
        through: Point | None = point
        while through is not None:
            through.links.append(link)
            through = through.parent

    def extra(self) -> dict[str, Any]:
        """What the canvas's file says of them."""
        if not self.points:
            return {}
        ends = [{"id": link, "parentId": point.id} for link, point in sorted(self.last.items())]
        return {"reroutes": [point.drawn() for point in self.points], "linkExtensions": ends}
