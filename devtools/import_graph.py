"""Who imports whom among the project's modules, read from the sources.

Imports inside functions and under TYPE_CHECKING count: they are as much a dependency as others.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

Graph = Mapping[str, frozenset[str]]


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _asked(path: Path, root: Path) -> Iterator[str]:
    """Dotted names that a file asks for, those of `from x import y` as x.y."""
    package = list(path.relative_to(root).parent.parts)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def import_graph(root: Path, *folders: str) -> Graph:
    """Module -> the modules of these folders of `root` that it imports."""
    files = [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]
    modules = {_name(path, root): path for path in files}

    def known(asked: str) -> str | None:
        while asked and asked not in modules:
            asked = asked.rpartition(".")[0]
        return asked or None

    found = {}
    for name, path in modules.items():
        targets = {known(asked) for asked in _asked(path, root)}
        found[name] = frozenset(target for target in targets if target and target != name)
    return found


def circles(graph: Graph) -> list[list[str]]:
    """Groups of modules that import one another, directly or round several corners."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += graph[module]
        reach[start] = seen
    groups = {
        frozenset([name, *(other for other in reach[name] if name in reach[other])])
        for name in graph
        if name in reach[name]
    }
    return sorted(sorted(group) for group in groups)
