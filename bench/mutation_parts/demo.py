"""Faults in how the demo models are opened."""

from __future__ import annotations

from .fault import Fault

TESTS = ("tests/nodes/drawing/test_demo_flow.py",)

DEMO: dict[str, list[Fault]] = {
    "nodes/host/app/demo_flow.py": [
        Fault(
            "a host without what Z-Image added is not refused",
            "    if kind is None or missing:\n",
            "    if kind is None:\n",
            TESTS,
        ),
        Fault(
            "a longer prompt loses its last words",
            "return max([least, *(_length(row, end) for row in tokens)])",
            "return least",
            TESTS,
        ),
    ],
    "nodes/host/app/demo_model.py": [
        Fault(
            "the transformer is shown all states of the text tower",
            "return (hidden[:, :shown], *others)",
            "return (hidden, *others)",
            TESTS,
        ),
        Fault(
            "the transformer is sampled with Z-Image's shift",
            '"shift": flow["shift"]}',
            '"shift": 3.0}',
            TESTS,
        ),
    ],
}
