"""A running graph as stages in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .messages import Message
from .terminal import Terminal

STALLED_S = 300.0
Found = Callable[[str, Mapping[str, Any], Sequence[str]], str]


class Follower:
    """The watcher of `Client.run`: a stage for each node that has a label.

    labels: what a node does, by its id. found: (node id, its outputs, the lines that it said) ->
    what came out, in a line.
    """

    def __init__(self, terminal: Terminal, labels: Mapping[str, str], found: Found):
        self.terminal, self.labels, self.found = terminal, labels, found
        self._node: str | None = None
        self._output: Mapping[str, Any] = {}
        self._said: list[str] = []
        self._place = 0.0, 0.0
        self._moved, self._stalled_for = terminal.clock(), STALLED_S

    def __call__(self, message: Message | None) -> None:
        if message is None or not message.is_work:
            self._nothing_new()
            return
        self._moved, self._stalled_for = self.terminal.clock(), STALLED_S
        data = message.data
        if message.kind == "executing":
            self._enter(data.get("node"))
        elif message.kind == "progress_state":
            self._go(data.get("nodes", {}).get(self._node))
        elif data.get("node") != self._node:
            self.terminal.tick()
        elif message.kind == "progress":
            self._go(data)
        elif message.kind == "progress_text":
            self._said.append(data["text"].partition("\n")[0])
            self.terminal.move(*self._place, self._said[-1])
        elif message.kind == "executed":
            self._output = data.get("output") or {}

    def _enter(self, node: str | None) -> None:
        if node == self._node:
            return
        if self._node in self.labels:
            self.terminal.end(self.found(self._node, self._output, self._said))
        self._node, self._output, self._said, self._place = node, {}, [], (0.0, 0.0)
        if node in self.labels:
            self.terminal.begin(self.labels[node])

    def _go(self, state: Mapping[str, Any] | None) -> None:
        if state is not None:
            self._place = float(state["value"]), float(state["max"])
            self.terminal.move(*self._place)

    def _nothing_new(self) -> None:
        waited = self.terminal.clock() - self._moved
        if waited < self._stalled_for:
            self.terminal.tick()
            return
        self._stalled_for += STALLED_S
        self.terminal.line(
            f"  nothing has moved for {waited / 60:.0f} minutes; ComfyUI still runs, so this "
            "waits on (Ctrl-C stops it; what is done is kept)"
        )
