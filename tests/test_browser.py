"""The shipped workflows in ComfyUI's own frontend, in a real browser.

Skipped where there is no browser; TVERASE_BROWSER_FULL=1 runs them unshortened (minutes), and
TVERASE_SCREENSHOTS names a folder for the pictures.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from host_support import browser
from host_support.client import Client
from test_workflows import FOLDER, RUNNABLE, api, quick_changes

FULL = bool(os.environ.get("TVERASE_BROWSER_FULL"))


@pytest.fixture
def shots(tmp_path: Path) -> Any:
    """A temporary folder whose pictures are copied to TVERASE_SCREENSHOTS, if set."""
    yield tmp_path
    target = os.environ.get("TVERASE_SCREENSHOTS")
    if target:
        Path(target).mkdir(parents=True, exist_ok=True)
        for picture in tmp_path.glob("*.png"):
            shutil.copy(picture, target)


def without_titles(prompt: dict[str, Any]) -> dict[str, Any]:
    return {i: {k: v for k, v in node.items() if k != "_meta"} for i, node in prompt.items()}


@pytest.mark.training
@pytest.mark.parametrize("name", RUNNABLE)
def test_workflow_runs_in_the_frontend(name: str, server: Client, shots: Path) -> None:
    lacking = browser.lacking()
    if lacking:
        pytest.skip(lacking)
    workflow = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    twin = api(name)
    changes = {} if FULL else quick_changes(twin)
    seen = browser.run_workflow(server.url, workflow, changes, shots, 900 if FULL else 240)
    assert seen["missing"] == []
    assert without_titles(seen["api"]) == without_titles(twin)
    assert seen["run"]["event"] == "execution_success", seen["run"]
    assert [error for error in seen["errors"] if "/extensions/tverase" in error] == []
    assert (shots / "after.png").stat().st_size > 20_000
    for node in seen["nodes"]:
        box, needs = node["box"], node["needs"]
        assert box[3] - 30 >= needs[1] - 1, f"{node['type']} is drawn {needs} big, not {box}"
