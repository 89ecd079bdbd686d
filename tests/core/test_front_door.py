"""`from tverase_core import ...`: what it offers, and that it costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

import tverase_core
from host_support.places import ROOT


@pytest.mark.parametrize("name", tverase_core.__all__)
def test_every_name_is_there_and_is_no_module(name: str) -> None:
    assert getattr(tverase_core, name).__module__.startswith("tverase_core.")


def test_editors_see_the_same_names() -> None:
    tree = ast.parse((ROOT / "tverase_core" / "__init__.py").read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: part.module
        for part in block.body
        if isinstance(part, ast.ImportFrom)
        for alias in part.names
    }
    assert seen == tverase_core._PLACES


def test_unknown_names_are_refused_by_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'task_vectors'"):
        _ = tverase_core.task_vectors  # type: ignore[attr-defined]


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, tverase_core; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
