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
from workflows import blueprints

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


def around_blueprint() -> dict[str, Any]:
    """The blueprint's node between the demo model and a file."""
    path = FOLDER.parent / "subgraphs" / f"{blueprints.NAME}.json"
    graph = json.loads(path.read_text("ascii"))
    (node,) = graph["nodes"]
    ends = ["MODEL", "CLIP", "VAE"]
    demo = {"id": 2, "type": "TVEraseDemoModel", "pos": [-400, 0], "size": [280, 90], "order": 0}
    demo |= {"flags": {}, "mode": 0, "inputs": [], "properties": {}, "widgets_values": []}
    demo["outputs"] = [{"name": end, "type": end, "links": []} for end in ends]
    save = {"id": 3, "type": "TVEraseSaveTaskVector", "pos": [500, 0], "size": [300, 110]}
    save |= {"flags": {}, "mode": 0, "order": 2, "outputs": [], "properties": {}}
    save["widgets_values"] = ["task_vectors/blueprint", "float32"]
    save["inputs"] = [{"name": "task_vector", "type": "TASK_VECTOR", "link": 3}]
    demo["outputs"][0]["links"], demo["outputs"][1]["links"] = [1], [2]
    node["inputs"][0]["link"], node["inputs"][1]["link"] = 1, 2
    node["outputs"][1]["links"] = [3]
    links = [[1, 2, 0, 1, 0, "MODEL"], [2, 2, 1, 1, 1, "CLIP"], [3, 1, 1, 3, 0, "TASK_VECTOR"]]
    return {
        **graph,
        "nodes": [node, demo, save],
        "links": links,
        "last_node_id": 3,
        "last_link_id": 3,
    }


@pytest.mark.training
def test_the_blueprint_runs_in_the_frontend(server: Client, shots: Path) -> None:
    lacking = browser.lacking()
    if lacking:
        pytest.skip(lacking)
    small = {"prompt": "a dog", "count": 16, "width": 64, "height": 64, "steps": 2}
    seen = browser.run_workflow(server.url, around_blueprint(), {"1": small}, shots, 240)
    assert seen["missing"] == []
    assert seen["run"]["event"] == "execution_success", seen["run"]
    drawn = [n for n in seen["api"].values() if n["class_type"] == "TVEraseConceptSetFromPrompt"]
    assert len(drawn) == 1
    saved = (server.base / "output" / "loras" / "task_vectors").glob("blueprint*")
    assert [path for path in saved if path.stat().st_size > 1_000_000]
