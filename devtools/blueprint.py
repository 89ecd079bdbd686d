"""A graph as one node: the file that ComfyUI lists under "Subgraph Blueprints".

The graph is described like a workflow, with two nodes of classes made by `boundary` where wires
come in and go out. In the file they become the subgraph's own ends, ids -10 and -20.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from devtools.workflow_graph import SLOT, Graph

ENTRY, EXIT = "BlueprintEntry", "BlueprintExit"
ENDS = {ENTRY: -10, EXIT: -20}
NAMESPACE = uuid.UUID("b1f6a0ce-8b1e-4a51-9a5c-6c1d2f0f7e11")  # ours, so that ids never change


def boundary(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> dict[str, Any]:
    """Stand-in node classes for both ends; socket types by name."""
    required = {name: (kind, {}) for name, kind in outputs.items()}
    entry = {
        "INPUT_TYPES": staticmethod(dict),
        "RETURN_TYPES": tuple(inputs.values()),
        "RETURN_NAMES": tuple(inputs),
    }
    exit_ = {"INPUT_TYPES": staticmethod(lambda: {"required": required}), "RETURN_TYPES": ()}
    return {ENTRY: type(ENTRY, (), entry), EXIT: type(EXIT, (), exit_)}


def blueprint(
    graph: Graph, name: str, description: str, promoted: Sequence[tuple[int, str]]
) -> dict[str, Any]:
    """The file's content. promoted: (node id, widget name) shown on the node itself."""
    inner = graph.ui()
    ends = {node["type"]: node for node in inner["nodes"] if node["type"] in ENDS}
    numbers = {ends[kind]["id"]: place for kind, place in ENDS.items()}
    nodes = [node for node in inner["nodes"] if node["type"] not in ENDS]
    links = [
        {
            "id": number,
            "origin_id": numbers.get(source, source),
            "origin_slot": source_slot,
            "target_id": numbers.get(target, target),
            "target_slot": target_slot,
            "type": kind,
        }
        for number, source, source_slot, target, target_slot, kind in inner["links"]
    ]
    inputs = [
        _socket(name, socket, ends[ENTRY], place, socket["links"] or [])
        for place, socket in enumerate(ends[ENTRY]["outputs"])
    ]
    outputs = [
        _socket(name, socket, ends[EXIT], place, [socket["link"]])
        for place, socket in enumerate(ends[EXIT]["inputs"])
    ]
    own = str(uuid.uuid5(NAMESPACE, name))
    definition = {
        "id": own,
        "version": 1,
        "revision": 0,
        "state": {
            "lastGroupId": len(inner["groups"]),
            "lastNodeId": inner["last_node_id"],
            "lastLinkId": inner["last_link_id"],
            "lastRerouteId": 0,
        },
        "config": {},
        "name": name,
        "inputNode": {"id": ENDS[ENTRY], "bounding": _box(ends[ENTRY], len(inputs))},
        "outputNode": {"id": ENDS[EXIT], "bounding": _box(ends[EXIT], len(outputs))},
        "inputs": inputs,
        "outputs": outputs,
        "widgets": [],
        "nodes": nodes,
        "groups": inner["groups"],
        "links": links,
        "extra": {},
    }
    return {
        "id": str(uuid.uuid5(NAMESPACE, f"{name}, file")),
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [_outer(definition, promoted)],
        "links": [],
        "groups": [],
        "definitions": {"subgraphs": [definition]},
        "config": {},
        "extra": {"BlueprintDescription": description},
        "version": 0.4,
    }


def _outer(definition: Mapping[str, Any], promoted: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """The one node of the file's own canvas."""
    sockets = {
        side: [{"name": s["name"], "type": s["type"]} for s in definition[side]]
        for side in ("inputs", "outputs")
    }
    return {
        "id": 1,
        "type": definition["id"],
        "pos": [0, 0],
        "size": [340, 420],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [{**socket, "link": None} for socket in sockets["inputs"]],
        "outputs": [{**socket, "links": None} for socket in sockets["outputs"]],
        "title": definition["name"],
        "properties": {"proxyWidgets": [[str(node), widget] for node, widget in promoted]},
        "widgets_values": [],
    }


def _socket(
    name: str, socket: Mapping[str, Any], end: Mapping[str, Any], place: int, links: list[int]
) -> dict[str, Any]:
    left, top = end["pos"]
    return {
        "id": str(uuid.uuid5(NAMESPACE, f"{name}, {end['type']}, {socket['name']}")),
        "name": socket["name"],
        "type": socket["type"],
        "linkIds": links,
        "pos": [left + 100, top + SLOT * (place + 1)],
    }


def _box(end: Mapping[str, Any], sockets: int) -> list[int]:
    return [*end["pos"], 120, SLOT * (sockets + 2)]
