"""The project's own rules, checked by reading the sources."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_support.places import ROOT

CORE = sorted((ROOT / "tverase_core").rglob("*.py"))
NODES = sorted((ROOT / "nodes").rglob("*.py"))
DEMO = [ROOT / "demo" / name for name in ("autoencoder.py", "judge_network.py")]  # nodes use them
COMMAND = ROOT / "erase_list.py"  # starts the host itself
SHIPPED = [ROOT / "__init__.py", COMMAND, *DEMO, *CORE, *NODES]
CORE_MAY_IMPORT = {"torch", "safetensors", "numpy"}
HOST_MODULES = {
    "alembic_db", "api_server", "app", "comfy", "comfy_api", "comfy_api_nodes", "comfy_config",
    "comfy_execution", "comfy_extras", "comfyui_version", "cuda_malloc", "execution",
    "folder_paths", "latent_preview", "main", "middleware", "node_helpers", "nodes", "protocol",
    "server", "utils",
}  # fmt: skip
FORBIDDEN_MODULES = {"pickle", "subprocess", "marshal", "shelve", "dill", "cloudpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "__import__", "torch.load", "os.system", "os.popen"}


def _id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _absolute_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _lines(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


def test_there_is_a_core() -> None:
    assert CORE


@pytest.mark.parametrize("path", CORE, ids=_id)
def test_core_imports_only_torch_safetensors_numpy_and_the_standard_library(path: Path) -> None:
    strangers = set(_absolute_imports(path)) - CORE_MAY_IMPORT - set(sys.stdlib_module_names)
    assert not strangers


@pytest.mark.parametrize("path", SHIPPED, ids=_id)
def test_only_nodes_host_imports_the_host(path: Path) -> None:
    if path.is_relative_to(ROOT / "nodes" / "host") or path == COMMAND:
        return
    assert not set(_absolute_imports(path)) & HOST_MODULES


@pytest.mark.parametrize("path", NODES, ids=_id)
def test_nodes_reach_the_core_by_relative_imports(path: Path) -> None:
    assert "tverase_core" not in set(_absolute_imports(path))  # two copies would exist


@pytest.mark.parametrize("path", SHIPPED, ids=_id)
def test_shipped_code_runs_no_foreign_code(path: Path) -> None:
    calls = {_dotted(n.func) for n in ast.walk(_tree(path)) if isinstance(n, ast.Call)}
    assert not calls & FORBIDDEN_CALLS
    assert not set(_absolute_imports(path)) & FORBIDDEN_MODULES


@pytest.mark.parametrize("path", CORE, ids=_id)
def test_core_does_not_print(path: Path) -> None:
    calls = {_dotted(n.func) for n in ast.walk(_tree(path)) if isinstance(n, ast.Call)}
    assert "print" not in calls


@pytest.mark.parametrize("path", SHIPPED, ids=_id)
def test_files_and_functions_stay_short(path: Path) -> None:
    assert _lines(path) <= (200 if path in NODES else 300)
    long = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > 60
    }
    assert not long


def test_no_folder_holds_more_than_fifteen_files() -> None:
    held = Counter(path.parent for path in (*CORE, *NODES))
    assert {folder: count for folder, count in held.items() if count > 15} == {}


@pytest.mark.parametrize("path", SHIPPED, ids=_id)
def test_no_broad_except(path: Path) -> None:
    """A bare or Exception-wide handler would swallow the host's Cancel, unless it raises again."""
    handlers = [n for n in ast.walk(_tree(path)) if isinstance(n, ast.ExceptHandler)]
    broad = [n for n in handlers if n.type is None or _dotted(n.type) == "Exception"]
    assert not [n.lineno for n in broad if not any(isinstance(x, ast.Raise) for x in ast.walk(n))]


def test_every_error_has_our_root() -> None:
    """It takes the machine's path out of the name that ComfyUI shows before the sentence."""
    classes = [n for path in SHIPPED for n in ast.walk(_tree(path)) if isinstance(n, ast.ClassDef)]
    errors = {c.name: {_dotted(b) for b in c.bases} for c in classes if c.name.endswith("Error")}
    assert errors.pop("TveraseError") == {"Exception"}
    known = {"TveraseError", *errors}
    assert [name for name, bases in errors.items() if not bases & known] == []


def test_no_absolute_paths_of_a_machine_are_committed() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    folders = "|".join(("home", "root", "Users", "work", "opt", "mnt"))
    pattern = re.compile(rf"(?<![\w.:/])/(?:{folders})/\w|[A-Za-z]:\\\\?Users")
    endings = {".py", ".md", ".json", ".toml", ".txt", ".yaml", ".yml", ".cfg", ".js", ".svg"}
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in endings and path.is_file() and path.name != "LICENSE":
            hits = pattern.findall(path.read_text("utf-8", "replace"))
            found += [(name, hit) for hit in hits]
    assert not found
