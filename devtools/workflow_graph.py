"""One description of a graph, two files: the canvas (UI format) and its API twin.

It asks the node classes for the order of widgets, and refuses whatever they do not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Lists that each installation fills with its own files.
FROM_DISK = {
    *("ckpt_name", "file", "unet_name", "vae_name"),
    *("clip_name", "clip_name1", "clip_name2"),
}
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NOTE_COLOURS = {"color": "#432", "bgcolor": "#653"}
NOTE = "MarkdownNote"
SLOT, WIDGET, TEXT_BOX, TITLE = 20, 24, 80, 30  # heights on the canvas
TEXT_LINE, LETTER = 17, 7  # in a text box: height of a line, width of a letter on average


class GraphError(ValueError):
    """The description does not fit the node classes."""


@dataclass(frozen=True)
class Output:
    """One output socket of a node, to be given as an input of another."""

    node: Node
    slot: int


@dataclass
class Node:
    """A node with its values; `values` holds plain values and Outputs by input name."""

    id: int
    kind: str
    at: tuple[int, int]
    title: str
    values: dict[str, Any]
    width: int
    height: int = 0

    def out(self, slot: int = 0) -> Output:
        """Its output socket number `slot`."""
        return Output(self, slot)


@dataclass(frozen=True)
class Socket:
    """An input as the node class declares it."""

    name: str
    kind: str
    options: Mapping[str, Any]
    choices: tuple[Any, ...]
    required: bool

    @property
    def is_widget(self) -> bool:
        """Does the canvas show a widget for it, rather than only a socket?"""
        return self.kind in WIDGET_TYPES and not self.options.get("forceInput")

    @property
    def has_control(self) -> bool:
        """Does the canvas add a control_after_generate entry behind it?"""
        by_name = self.kind == "INT" and self.name in ("seed", "noise_seed")
        return bool(self.options.get("control_after_generate", by_name))

    def fault(self, value: Any) -> str | None:
        """Why a widget cannot hold this value; None when it can."""
        low, high = self.options.get("min"), self.options.get("max")
        if self.kind == "COMBO" and self.name in FROM_DISK:
            return None if isinstance(value, str) and value else "a file name"
        if self.kind == "COMBO":
            return None if value in self.choices else f"one of {list(self.choices)}"
        wanted = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}[self.kind]
        if not isinstance(value, wanted) or (isinstance(value, bool) != (self.kind == "BOOLEAN")):
            return f"a value of type {self.kind}"
        if low is not None and value < low:
            return f"at least {low}"
        if high is not None and value > high:
            return f"at most {high}"
        return None


def sockets(node_class: Any) -> list[Socket]:
    """The inputs of a node class in the order of /object_info."""
    types, found = node_class.INPUT_TYPES(), []
    for part in ("required", "optional"):
        for name, spec in types.get(part, {}).items():
            options = spec[1] if len(spec) > 1 else {}
            choices = spec[0] if isinstance(spec[0], (list, tuple)) else options.get("options", ())
            kind = "COMBO" if isinstance(spec[0], (list, tuple)) else spec[0]
            found.append(Socket(name, kind, options, tuple(choices), part == "required"))
    return found


@dataclass
class Graph:
    """Nodes, notes and groups of one workflow. `classes` are the host's NODE_CLASS_MAPPINGS."""

    classes: Mapping[str, Any]
    display_names: Mapping[str, str]
    packs: Mapping[str, str]  # version by registry name: {"comfy-core": ..., "tverase": ...}
    nodes: list[Node] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        kind: str,
        at: tuple[int, int],
        label: str = "",
        size: tuple[int, int] = (300, 0),
        **values: Any,
    ) -> Node:
        """A node at `at`, at least so big. Raises GraphError for what its class does not have."""
        if kind not in self.classes:
            raise GraphError(f"there is no node {kind}")
        known = {socket.name: socket for socket in sockets(self.classes[kind])}
        for name in values:
            if name not in known:
                raise GraphError(f"{kind} has no input {name!r}; it has {', '.join(known)}")
        settled = {}
        for name, socket in known.items():
            value = values.get(name, socket.options.get("default") if socket.is_widget else None)
            if value is None:
                if socket.required:
                    raise GraphError(f"{kind} needs {name!r} ({socket.kind})")
                continue
            self._check(kind, socket, value)
            settled[name] = value
        node = Node(len(self.nodes) + 1, kind, at, label, settled, *size)
        node.height = max(node.height, self._natural_height(node))
        self.nodes.append(node)
        return node

    def note(self, at: tuple[int, int], text: str, size: tuple[int, int]) -> Node:
        """A Markdown note on the canvas; the API twin has none."""
        node = Node(len(self.nodes) + 1, NOTE, at, "Note", {"text": text}, *size)
        self.nodes.append(node)
        return node

    def group(self, title: str, members: list[Node], colour: str) -> None:
        """A frame around nodes."""
        left = min(n.at[0] for n in members) - 15
        top = min(n.at[1] for n in members) - TITLE - 45
        right = max(n.at[0] + n.width for n in members) + 15
        bottom = max(n.at[1] + n.height for n in members) + 15
        self.groups.append(
            {
                "id": len(self.groups) + 1,
                "title": title,
                "bounding": [left, top, right - left, bottom - top],
                "color": colour,
                "font_size": 24,
                "flags": {},
            }
        )

    def _check(self, kind: str, socket: Socket, value: Any) -> None:
        where = f"{kind}.{socket.name}"
        if isinstance(value, Output):
            types = self.classes[value.node.kind].RETURN_TYPES
            if value.slot >= len(types) or types[value.slot] != socket.kind:
                got = types[value.slot] if value.slot < len(types) else "no such output"
                raise GraphError(f"{where} takes {socket.kind}, got {got} of {value.node.kind}")
        elif not socket.is_widget:
            raise GraphError(f"{where} takes a link of type {socket.kind}, got {value!r}")
        else:
            expected = socket.fault(value)
            if expected:
                raise GraphError(f"{where}: expected {expected}, got {value!r}")

    def _natural_height(self, node: Node) -> int:
        every = sockets(self.classes[node.kind])
        plain = sum(not s.is_widget for s in every)
        slots = max(plain, len(self.classes[node.kind].RETURN_TYPES))
        texts = [node.values.get(s.name) for s in every if s.options.get("multiline")]
        lines = sum(s.is_widget + s.has_control for s in every) - len(texts)
        fits = max(1, (node.width - 50) // LETTER)
        rows = [sum(-(-len(x) // fits) or 1 for x in str(t).splitlines()) for t in texts]
        box = max([TEXT_BOX, *(10 + TEXT_LINE * count for count in rows)])  # all get the same
        return slots * SLOT + lines * WIDGET + len(texts) * box + 14

    def api(self) -> dict[str, Any]:
        """What POST /prompt takes."""
        return {
            str(node.id): {
                "class_type": node.kind,
                "inputs": {
                    name: [str(v.node.id), v.slot] if isinstance(v, Output) else v
                    for name, v in node.values.items()
                },
                "_meta": {"title": node.title or self._display_name(node)},
            }
            for node in self.nodes
            if node.kind != NOTE
        }

    def _display_name(self, node: Node) -> str:
        return str(self.display_names.get(node.kind, node.kind))

    def ui(self) -> dict[str, Any]:
        """What the canvas loads."""
        links: list[list[Any]] = []
        drawn = [self._drawn(node, order, links) for order, node in enumerate(self.nodes)]
        by_id = {entry["id"]: entry for entry in drawn}
        for number, source, slot, *_ in links:
            socket = by_id[source]["outputs"][slot]
            socket["links"] = [*(socket["links"] or []), number]
        return {
            "last_node_id": len(self.nodes),
            "last_link_id": len(links),
            "nodes": drawn,
            "links": links,
            "groups": self.groups,
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    def _drawn(self, node: Node, order: int, links: list[list[Any]]) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "id": node.id,
            "type": node.kind,
            "pos": list(node.at),
            "size": [node.width, node.height],
            "flags": {},
            "order": order,
            "mode": 0,
        }
        if node.kind == NOTE:
            texts = {"title": node.title, "properties": {}, "widgets_values": [node.values["text"]]}
            return {**entry, "inputs": [], "outputs": [], **texts, **NOTE_COLOURS}
        node_class = self.classes[node.kind]
        inputs, values = [], []
        for socket in sockets(node_class):
            value = node.values.get(socket.name)
            linked = isinstance(value, Output)
            if not socket.is_widget or linked:
                face: dict[str, Any] = {"name": socket.name, "type": socket.kind, "link": None}
                if socket.is_widget:
                    face["widget"] = {"name": socket.name}
                if isinstance(value, Output):
                    ends = [value.node.id, value.slot, node.id, len(inputs), socket.kind]
                    links.append([len(links) + 1, *ends])
                    face["link"] = len(links)
                inputs.append(face)
            if socket.is_widget:
                values.append(socket.options.get("default") if linked else value)
                values += ["fixed"] * socket.has_control
        names = getattr(node_class, "RETURN_NAMES", None) or node_class.RETURN_TYPES
        outputs = [
            {"name": name, "type": kind, "links": None, "slot_index": slot}
            for slot, (name, kind) in enumerate(zip(names, node_class.RETURN_TYPES, strict=True))
        ]
        pack = "tverase" if node.kind.startswith("TVErase") else "comfy-core"
        facts = {"cnr_id": pack, "ver": self.packs[pack], "Node name for S&R": node.kind}
        if node.title:
            entry["title"] = node.title
        return {
            **entry,
            "inputs": inputs,
            "outputs": outputs,
            "properties": facts,
            "widgets_values": values,
        }
