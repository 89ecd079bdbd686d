"""Which functions of the host layer guard something, and which faults take their guards out."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from bench.mutation_parts.fault import Fault
from bench.mutation_parts.table import FAULTS

ROOT = Path(__file__).resolve().parents[2]
HOST = "nodes/host"
# Guards that neither raise nor stand in a `finally`.
NAMED = (
    "stale wrappers stay on the shared modules",
    "the clone stays loaded",
    "a model pushed out of memory is not brought back",
    "inference mode is not left",
    "autograd is given the loader's inference tensors",
    "the clone stays in dynamic memory",
    "a model that the VAE pushed out draws on",
    "the host's memory management is copied",
    "the text model is shared, not copied",
    "the MODEL itself is patched",
    "the CLIP itself is patched",
    "the class's own list is changed",
    "the edit stays on the shared modules",
)


def guarding_functions() -> dict[tuple[str, str], str]:
    """Source of every function that refuses or cleans up, by file and name."""
    found = {}
    for path in sorted((ROOT / HOST).rglob("*.py")):
        text = path.read_text("utf-8")
        for function in _functions(ast.parse(text)):
            if any(map(_guards, ast.walk(function))):
                source = ast.get_source_segment(text, function, padded=True) or ""
                source += "\n"
                found[path.relative_to(ROOT).as_posix(), function.name] = source
    return found


def guards() -> dict[tuple[str, str], Fault]:
    """The faults that take a guard out, by file and fault."""
    sources = guarding_functions()
    return {
        (file, fault.what): fault
        for file, faults in FAULTS.items()
        for fault in faults
        if file.startswith(f"{HOST}/")
        and (
            fault.what in NAMED
            or any(place == file and fault.old in source for (place, _), source in sources.items())
        )
    }


def without_fault() -> list[tuple[str, str]]:
    """Functions that guard something and have no fault planted in them."""
    return [
        (file, name)
        for (file, name), source in guarding_functions().items()
        if not any(fault.old in source for fault in FAULTS.get(file, ()))
    ]


def caught(results: Path) -> tuple[int, list[str]]:
    """(guards, those whose removal no test saw), by what `bench mutations` last found."""
    rows = json.loads(results.read_text("utf-8"))["faults"]
    seen = {(row["file"], row["fault"]) for row in rows if row["result"] == "caught"}
    every = {place: fault for place, fault in guards().items() if not fault.harmless}
    return len(every), [f"{file}: {what}" for file, what in every if (file, what) not in seen]


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _guards(node: ast.AST) -> bool:
    return isinstance(node, ast.Raise) or (isinstance(node, ast.Try) and bool(node.finalbody))
