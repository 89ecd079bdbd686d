"""A client that hears how long the nodes of each type work."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from devtools.client import Client, Watch
from devtools.messages import Message


class NodeClock:
    """Adds the time between two `executing` messages to the type of the node that they enclose."""

    def __init__(
        self,
        graph: Mapping[str, Any],
        seconds: dict[str, float],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._graph, self._seconds, self._clock = graph, seconds, clock
        self._kind: str | None = None
        self._since = self._began = clock()
        self.first_saved: float | None = None  # seconds until a Save Image node was done

    def __call__(self, message: Message | None) -> None:
        if message is None:
            return
        node = message.data.get("node")
        if message.kind == "executing":
            now = self._clock()
            if self._kind is not None:
                self._seconds[self._kind] += now - self._since
            self._kind = None if node is None else self._graph[node]["class_type"]
            self._since = now
        elif message.kind == "executed" and self._graph[node]["class_type"] == "SaveImage":
            self.first_saved = self.first_saved or self._clock() - self._began


class TimedClient(Client):
    """seconds: by type of node, over all graphs that it ran; first_saved: of the last graph."""

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.seconds: dict[str, float] = defaultdict(float)
        self.first_saved: float | None = None

    def run(
        self,
        prompt: Mapping[str, Any],
        watch: Watch | None = None,
        stalled_s: float | None = None,
    ) -> dict[str, Any]:
        """As `Client.run`."""
        clock = NodeClock(prompt, self.seconds)

        def both(message: Message | None) -> None:
            clock(message)
            if watch:
                watch(message)

        outputs = super().run(prompt, both, stalled_s)
        self.first_saved = clock.first_saved
        return outputs
