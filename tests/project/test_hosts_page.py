"""docs/hosts.md names real functions and tests, and every name of the host that is used."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_support.places import ROOT

PAGE = ROOT / "docs" / "hosts.md"
USERS = [*sorted((ROOT / "nodes" / "host").rglob("*.py")), ROOT / "erase_list.py"]
OF_HOST = {"comfy", "comfy_execution", "server"}  # not folder_paths and nodes, packs' own interface
TESTS = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
SHIPPED = [*(ROOT / "nodes").rglob("*.py"), *(ROOT / "tverase_core").rglob("*.py")]


def rows() -> list[tuple[str, str, str]]:
    """The three cells of each line of the tables of leans."""
    text = PAGE.read_text("utf-8").partition("## What the pack leans on")[2]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [(of, where, test) for of, where, test in lines if of != "of ComfyUI"]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def defined(path: Path) -> set[str]:
    kinds = ast.FunctionDef | ast.ClassDef
    return {n.name for n in ast.parse(path.read_text("utf-8")).body if isinstance(n, kinds)}


def exists(where: str) -> bool:
    """Whether `module.function`, a class or function of the core or of a script, or a path is."""
    if (ROOT / where).exists():
        return True
    module, _, name = where.rpartition(".")
    files = [p for p in (*SHIPPED, ROOT / "erase_list.py") if not module or p.stem == module]
    return any(name in defined(path) for path in files)


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def used(path: Path) -> Iterator[str]:
    """Names of the host, as far as imports and attributes of modules show them."""
    tree, names = ast.parse(path.read_text("utf-8")), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    yield from (name for name in names.values() if name.partition(".")[0] in OF_HOST)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = dotted(node, names)
            if name.partition(".")[0] in OF_HOST:
                yield name


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_a_row_names_what_there_is(row: tuple[str, str, str]) -> None:
    of, where, test = row
    assert quoted(of)
    assert [name for name in quoted(where) if not exists(name)] == []
    assert quoted(where)
    assert [name for name in quoted(test) if f"def {name}(" not in TESTS] == []
    assert quoted(test) or test.startswith("none: ")


def test_every_name_of_the_host_that_is_used_stands_there() -> None:
    told = set(re.findall(r"\w+", " ".join(of for of, _, _ in rows())))
    found = {name for path in USERS for name in used(path)}
    longest = {name for name in found if not any(other.startswith(f"{name}.") for other in found)}
    assert {name for name in longest if name.rpartition(".")[2] not in told} == set()
    assert len(longest) > 30  # else nothing was found
