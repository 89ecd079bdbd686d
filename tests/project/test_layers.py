"""Layers only look down: a folder imports what lies below it, never beside or above."""

from __future__ import annotations

import pytest

from devtools.import_graph import circles, import_graph
from devtools.layers import ABOVE, CORE, part_of
from host_support.places import ROOT

GRAPH = import_graph(ROOT, "tverase_core", "nodes")
HEIGHT = {name: height for height, names in enumerate(CORE) for name in names}


@pytest.mark.parametrize("module", sorted(m for m in GRAPH if m.startswith("tverase_core.")))
def test_the_core_looks_down(module: str) -> None:
    part = part_of(module)
    if part in ABOVE:
        return
    for target in GRAPH[module]:
        assert part_of(target) == part or HEIGHT[part_of(target)] < HEIGHT[part], target


def test_the_core_knows_no_node_and_the_host_layer_no_widget() -> None:
    for module, targets in GRAPH.items():
        if module.startswith("tverase_core"):
            assert not [t for t in targets if t.startswith("nodes")], module
        if module.startswith("nodes.host"):
            ours = [t for t in targets if t.startswith("nodes.")]  # "nodes" alone is ComfyUI's
            assert all(t.startswith("nodes.host") for t in ours), module


def test_nothing_imports_in_a_circle() -> None:
    assert circles(GRAPH) == []
    three = {
        "a": frozenset("b"),
        "b": frozenset("c"),
        "c": frozenset("a"),
        "d": frozenset("a"),
    }
    assert circles(three) == [["a", "b", "c"]]
    assert circles(import_graph(ROOT, "devtools", "workflows", "demo")) == []
