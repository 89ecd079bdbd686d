"""One description of a graph, two files: the canvas (UI format) and its API twin.

It asks the node classes for the order of widgets, and refuses whatever they do not have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .wires import End, Wires

# Lists that each installation fills with its own files.
FROM_DISK = {
    *("ckpt_name", "file", "unet_name", "vae_name"),
    *("clip_name", "clip_name1", "clip_name2"),
}
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NOTE_COLOURS = {"color": "#432", "bgcolor": "#653"}
NOTE = "MarkdownNote"
SLOT, WIDGET, TEXT_BOX, TITLE = 20, 24, 80, 30  # heights on the canvas
FOLDED = 230  # width of a node of which only the title is shown
# What a node adds to its widgets when it has run, and in Nodes 2.0: a text, its pack's name
ROOM = {
    "TVEraseDemoModel": 30,
    "CheckpointLoaderSimple": 30,
    "TVEraseDemoJudge": 30,
    "TVEraseLoadTaskVector": 40,
    "TVEraseLoadImageFolder": 100,
    "TVEraseConceptSetFromPrompt": 70,
    "TVEraseConceptSetFromImages": 100,
    "TVEraseBlockMask": 240,
    "TVEraseExtractTaskVector": 105,
    "TVEraseSaveTaskVector": 110,
    "TVEraseCombineTaskVectors": 110,
    "TVEraseApplyNegatedTV": 110,
}
NOTE_EDGE, NOTE_LINE, NOTE_LETTER = 36, 16, 4.9  # of a note: around its text, a line, a letter
NOTE_GAP, NOTE_HEAD = 8, 18  # below a paragraph, around a heading
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
    folded: bool = False  # only its title is shown

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height that it takes below its title."""
        return (FOLDED, 0) if self.folded else (self.width, self.height)

    def slot_height(self, slot: int) -> int:
        """Where a wire meets the node's socket number `slot`."""
        return self.at[1] - TITLE // 2 if self.folded else self.at[1] + 14 + SLOT * slot

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


def note_height(text: str, width: int) -> int:
    """What a note of that width needs, in the font that both renderers give it."""
    high, fits = NOTE_EDGE, (width - 40) / NOTE_LETTER
    for part in filter(None, text.split("\n")):
        rows = -(-len(part.replace("*", "")) // fits)
        high += int(rows) * NOTE_LINE + (NOTE_HEAD if part.startswith("#") else NOTE_GAP)
    return high


@dataclass
class Graph:
    """Nodes, notes and groups of one workflow. `classes` are the host's NODE_CLASS_MAPPINGS."""

    classes: Mapping[str, Any]
    display_names: Mapping[str, str]
    packs: Mapping[str, str]  # version by registry name: {"comfy-core": ..., "tverase": ...}
    nodes: list[Node] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    models: Callable[[list[str]], list[dict[str, str]]] | None = None  # where files come from
    lanes: int = 0  # height of the first lane for wires, above the groups
    led: list[Output] = field(default_factory=list)

    def add(
        self,
        kind: str,
        at: tuple[int, int],
        /,
        label: str = "",
        size: tuple[int, int] = (300, 0),
        folded: bool = False,
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
        node = Node(len(self.nodes) + 1, kind, at, label, settled, *size, folded=folded)
        node.height = max(node.height, self._natural_height(node))
        self.nodes.append(node)
        return node

    def lead(self, *outputs: Output) -> None:
        """Keeps the wires of these outputs from running under nodes."""
        self.led += outputs

    def note(self, left: int, bottom: int, text: str, width: int) -> Node:
        """A Markdown note on the canvas, upwards from `bottom`; the API twin has none."""
        high = note_height(text, width)
        at = (left, bottom - high)
        node = Node(len(self.nodes) + 1, NOTE, at, "Note", {"text": text}, width, high)
        self.nodes.append(node)
        return node

    def group(self, title: str, members: list[Node], colour: str) -> None:
        """A frame around nodes."""
        left = min(n.at[0] for n in members) - 15
        top = min(n.at[1] for n in members) - TITLE - 45
        right = max(n.at[0] + n.shown[0] for n in members) + 15
        bottom = max(n.at[1] + n.shown[1] for n in members) + 15
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
        room = ROOM.get(node.kind, 0)
        return slots * SLOT + lines * WIDGET + len(texts) * box + 14 + room

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
            "extra": self._wires(links).extra(),
            "version": 0.4,
        }

    def _wires(self, links: list[list[Any]]) -> Wires:
        wires, by_id = Wires(self.lanes), {node.id: node for node in self.nodes}
        for output in self.led:
            source, ends = output.node, []
            for number, start, slot, target, place, _ in links:
                if (start, slot) == (source.id, output.slot):
                    node = by_id[target]
                    above = node.at[1] - TITLE - 15
                    ends.append(End(number, node.at[0], node.slot_height(place), above))
            right = source.at[0] + source.shown[0]
            wires.lead(right, source.slot_height(output.slot), ends)
        return wires

    def _drawn(self, node: Node, order: int, links: list[list[Any]]) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "id": node.id,
            "type": node.kind,
            "pos": list(node.at),
            "size": [node.width, node.height],
            "flags": {"collapsed": True} if node.folded else {},
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
        facts: dict[str, Any] = {"cnr_id": pack, "ver": self.packs[pack]}
        facts["Node name for S&R"] = node.kind
        files = [str(value) for name, value in node.values.items() if name in FROM_DISK]
        if self.models and (offered := self.models(files)):
            facts["models"] = offered
        if node.title:
            entry["title"] = node.title
        return {
            **entry,
            "inputs": inputs,
            "outputs": outputs,
            "properties": facts,
            "widgets_values": values,
        }
