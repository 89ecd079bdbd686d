"""Reading workflows in the API format, the one that POST /prompt takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .install import ROOT

API_GRAPHS = ROOT / "workflows" / "api"
ERASE_CONCEPT = API_GRAPHS / "erase_concept.json"


def read_graph(path: Path) -> dict[str, Any]:
    """The file's nodes by their ids."""
    return json.loads(path.read_text(encoding="utf-8"))


def node_of(graph: dict[str, Any], kind: str) -> str:
    """Id of the first node of that type."""
    return next(name for name, node in graph.items() if node["class_type"] == kind)


def sampling_of(graph: dict[str, Any]) -> dict[str, Any]:
    """The first KSampler's settings, so that figures are those of the workflow's pictures."""
    inputs = graph[node_of(graph, "KSampler")]["inputs"]
    return {name: inputs[name] for name in ("steps", "cfg", "sampler_name", "scheduler")}
