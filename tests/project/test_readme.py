"""The README's Python really runs, and its links and commands exist."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from devtools import readme
from host_support.places import ROOT
from workflows import build

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_python_block_runs(tmp_path: Path):
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert blocks, "README.md has no python block"
    for block in blocks:
        (tmp_path / "block.py").write_text(block, "utf-8")
        runpy.run_path(str(tmp_path / "block.py"))


def test_every_relative_link_leads_to_a_file():
    targets = re.findall(r"\]\(([^)#]+)", README)
    missing = [t for t in targets if "://" not in t and not (ROOT / t).exists()]
    assert not missing


def test_every_named_command_exists():
    offered = set(re.findall(r"^    python dev\.py (\w+)", (ROOT / "dev.py").read_text(), re.M))
    used = set(re.findall(r"python dev\.py (\w+)", README))
    assert used <= offered


def test_the_table_quotes_the_figures():
    assert readme.render(README) == README, "run `python devtools/readme.py`"


def test_a_readme_without_marks_is_refused():
    with pytest.raises(ValueError, match="marks"):
        readme.render("no marks here")


def test_every_workflow_is_listed():
    listed = re.findall(r"^\| `(\w+)` \|", README.partition("| workflow |")[2], re.MULTILINE)
    assert listed[: len(build.WORKFLOWS)] == list(build.WORKFLOWS)
