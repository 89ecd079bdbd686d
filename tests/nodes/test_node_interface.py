"""Node ids, sockets and widgets are frozen: saved workflows hold them by name and by place.

tests/data/node_interface.json is the promise. New nodes, and new inputs, outputs or choices at
the end, are fine; `python tests/nodes/test_node_interface.py` in a host's environment adds them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

PROMISE = Path(__file__).parents[1] / "data" / "node_interface.json"
# lists that the host or the disk fills
HOSTS_OWN = ("sampler_name", "scheduler", "file", "folder", "base_file", "tuned_file")


def input_kind(name: str, spec: Any) -> Any:
    """The socket's type; the choices of a list widget."""
    kind = spec[0]
    if not isinstance(kind, list):
        return kind
    return "COMBO" if name in HOSTS_OWN else list(kind)


def interface(cls: Any) -> dict[str, Any]:
    """What a saved workflow or API graph depends on."""
    inputs = {
        group: [[name, input_kind(name, spec)] for name, spec in specs.items()]
        for group, specs in cls.INPUT_TYPES().items()
        if group != "hidden"
    }
    return {"inputs": inputs, "outputs": list(cls.RETURN_TYPES)}


def broken(promised: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What a saved workflow would trip over; nothing when things were only appended."""
    problems = []
    groups = {*promised["inputs"], *now["inputs"]}
    for group in sorted(groups):
        old, new = (side["inputs"].get(group, []) for side in (promised, now))
        for place, (name, kind) in enumerate(old):
            got = new[place] if place < len(new) else None
            if got is None or got[0] != name:
                problems.append(f"{group} input {place}: {name!r} became {got!r}")
            elif isinstance(kind, list) and isinstance(got[1], list):
                lost = [choice for choice in kind if choice not in got[1]]
                problems += [f"{name}: the choice {choice!r} is gone" for choice in lost]
            elif got[1] != kind:
                problems.append(f"{name}: {kind!r} became {got[1]!r}")
        if group == "required" and len(new) > len(old):
            problems += [f"{name!r} is new and required" for name, _ in new[len(old) :]]
    if now["outputs"][: len(promised["outputs"])] != promised["outputs"]:
        problems.append(f"outputs {promised['outputs']} became {now['outputs']}")
    return problems


def test_the_interface_is_kept(pack: Any) -> None:
    promise = json.loads(PROMISE.read_text("utf-8"))
    gone = sorted(set(promise) - set(pack.NODE_CLASS_MAPPINGS))
    assert not gone, f"nodes that saved workflows need are gone: {gone}"
    problems = {
        name: broken(promise[name], interface(pack.NODE_CLASS_MAPPINGS[name])) for name in promise
    }
    assert not {name: found for name, found in problems.items() if found}


OLD: dict[str, Any] = {
    "inputs": {"required": [["model", "MODEL"], ["mode", ["a", "b"]]], "optional": []},
    "outputs": ["MODEL"],
}


@pytest.mark.parametrize(
    ("required", "optional", "outputs", "problem"),
    [
        ([["model", "MODEL"], ["mode", ["a", "b"]]], [], ["MODEL"], None),
        ([["model", "MODEL"], ["mode", ["a", "b", "c"]]], [["x", "INT"]], ["MODEL", "INT"], None),
        ([["mode", ["a", "b"]], ["model", "MODEL"]], [], ["MODEL"], "became"),
        ([["model", "CLIP"], ["mode", ["a", "b"]]], [], ["MODEL"], "'MODEL' became 'CLIP'"),
        ([["model", "MODEL"], ["mode", ["a"]]], [], ["MODEL"], "'b' is gone"),
        ([["model", "MODEL"]], [], ["MODEL"], "became None"),
        (
            [["model", "MODEL"], ["mode", ["a", "b"]], ["x", "INT"]],
            [],
            ["MODEL"],
            "new and required",
        ),
        ([["model", "MODEL"], ["mode", ["a", "b"]]], [], ["CLIP"], "outputs"),
    ],
)
def test_changes_that_break_workflows_are_seen(
    required: list[Any], optional: list[Any], outputs: list[str], problem: str | None
) -> None:
    now = {"inputs": {"required": required, "optional": optional}, "outputs": outputs}
    found = broken(OLD, now)
    assert bool(found) == (problem is not None)
    assert problem is None or problem in found[0]


def test_every_node_explains_itself(pack: Any) -> None:
    for name, cls in pack.NODE_CLASS_MAPPINGS.items():
        assert cls.DESCRIPTION.strip(), name
        assert cls.SEARCH_ALIASES, name
        assert len(cls.OUTPUT_TOOLTIPS) == len(cls.RETURN_TYPES), name
        assert all(text.strip() for text in cls.OUTPUT_TOOLTIPS), name
        names = getattr(cls, "RETURN_NAMES", cls.RETURN_TYPES)
        assert len(names) == len(cls.RETURN_TYPES), name
        assert callable(getattr(cls, cls.FUNCTION)), name
        for group in cls.INPUT_TYPES().values():
            for key, spec in group.items():
                assert spec[1]["tooltip"].strip(), f"{name}.{key}"


def test_every_promised_node_is_written_down(pack: Any) -> None:
    """A node that nobody promised may still change; once released it belongs in the file."""
    promise = json.loads(PROMISE.read_text("utf-8"))
    missing = sorted(set(pack.NODE_CLASS_MAPPINGS) - set(promise))
    assert not missing, f"add {missing}: run `python tests/nodes/test_node_interface.py`"


def write_promise() -> None:
    import sys

    here = PROMISE.parents[1]
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() not in (here, here.parent)]
    sys.path += [str(here.parent), str(here)]
    from devtools import in_process

    in_process.import_host(in_process.host_tree())
    nodes = in_process.load_pack().NODE_CLASS_MAPPINGS
    lines = [
        f"{json.dumps(name)}: {json.dumps(interface(cls))}" for name, cls in sorted(nodes.items())
    ]
    PROMISE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    write_promise()
