"""The shipped workflows in ComfyUI's own frontend, in a real browser.

Skipped where there is no browser. A run that reaches every workflow writes docs/workflows.md.
TVERASE_BROWSER_FULL=1 runs the workflows unshortened (many minutes); TVERASE_SCREENSHOTS names a
folder for pictures of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_support import browser, stand_ins, workflow_list
from host_support.browser import Browser
from host_support.client import Client
from host_support.quick_workflows import (
    FOLDER,
    NAMES,
    RUNNABLE,
    api,
    quick,
    quick_changes,
    smallest,
)
from workflows import blueprints, build
from workflows.flow_families import FAMILIES

FULL = bool(os.environ.get("TVERASE_BROWSER_FULL"))
TIMEOUT_S = 3600 if FULL else 600  # for one run; only a busy computer comes near
CHECKPOINTS = ["erase_concept_sd15", "erase_concept_sdxl"]
PRESETS = json.loads((FOLDER.parent / "web" / "presets.json").read_text("utf-8"))
PRESET_OF = {
    "TVEraseConceptSetFromPrompt": "paper",
    "TVEraseConceptFinetune": "quick",
    "TVEraseDiverseInversion": "defaults",
    "TVEraseAutoStrength": "quick",
}
SHOWS_PICTURES = {
    "TVEraseBlockMask",
    "PreviewImage",
    "SaveImage",
    "TVEraseAutoStrength",
    "TVEraseBeforeAfterGrid",
    "TVEraseConceptFinetune",
    "TVEraseDiverseInversion",
}
NODES_2 = "Comfy.VueNodes.Enabled"
EXTENDED_MENUS = (0, 33, 0)  # of Nodes 2.0: seen there, not in 0.3.75
pytestmark = pytest.mark.training


@pytest.fixture(scope="session")
def page(server: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The frontend of `server`, one page for all tests."""
    lacking = browser.lacking()
    if lacking:
        pytest.skip(lacking)
    # in a small window a whole graph is drawn without its words, but quicker
    size = (2880, 1500) if os.environ.get("TVERASE_SCREENSHOTS") else (1600, 900)
    with Browser(server.url, tmp_path_factory.mktemp("profile"), size) as opened:
        yield opened


@pytest.fixture(scope="session")
def statuses(comfy_host: Any) -> Iterator[dict[str, str]]:
    """What each workflow did, by name."""
    found: dict[str, str] = {}
    yield found
    version = (comfy_host.tree / "comfyui_version.py").read_text("utf-8")
    if set(found) == set(NAMES) and f'"{build.COMFYUI}"' in version:
        workflow_list.write(found)


@pytest.fixture
def status(request: pytest.FixtureRequest, statuses: dict[str, str]) -> Iterator[list[str]]:
    """The sentence for this test's workflow; the first one says what failed."""
    said = ["**fails**"]
    yield said
    statuses[request.node.callspec.params["name"]] = said[-1]


def without_titles(prompt: dict[str, Any]) -> dict[str, Any]:
    return {i: {k: v for k, v in node.items() if k != "_meta"} for i, node in prompt.items()}


def folded_of(workflow: dict[str, Any]) -> set[str]:
    """Ids of the nodes of which only the title is shown."""
    return {str(n["id"]) for n in workflow["nodes"] if n["flags"].get("collapsed")}


def opened(page: Browser, name: str) -> dict[str, Any]:
    """Opens a shipped workflow; it is whole, fits its boxes and equals its API twin."""
    workflow = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    seen = page.ask("open", workflow=workflow)
    assert seen["missing"] == []
    offers = any("models" in node["properties"] for node in workflow["nodes"])
    assert offers or seen["dialogs"] == []  # else of the files that the host offers to bring
    assert without_titles(seen["api"]) == without_titles(api(name))
    folded = folded_of(workflow)
    for node in seen["nodes"]:
        if str(node["id"]) in folded:
            continue
        box, needs = node["box"], node["needs"]
        assert box[3] - 30 >= needs[1] - 1, f"{node['type']} is drawn {needs} big, not {box}"
    return seen


def runs(page: Browser, name: str, changes: dict[str, Any]) -> None:
    """Sets widgets, presses Run; it succeeds, and pictures appear on the nodes that show them."""
    page.ask("set", changes=changes)
    ended = page.run(TIMEOUT_S)
    assert ended["event"] == "execution_success", ended
    shown = page.ask("pictures")["pictures"]
    workflow = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    showing = {str(n["id"]) for n in workflow["nodes"] if n["type"] in SHOWS_PICTURES}
    assert set(shown) == showing - folded_of(workflow)
    if not page.elements or browser.host_version() >= EXTENDED_MENUS:  # the first Nodes 2.0 move
        stays_in_its_places(page, name)
    assert [error for error in page.errors if "/extensions/tverase/" in error] == []
    if os.environ.get("TVERASE_SCREENSHOTS"):
        take_pictures(page, name, Path(os.environ["TVERASE_SCREENSHOTS"]))


def stays_in_its_places(page: Browser, name: str) -> None:
    """What nodes show after a run neither leaves their group nor lies on other nodes."""
    seen = page.ask("boxes")
    workflow = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    folded = {str(n["id"]) for n in workflow["nodes"] if n["flags"].get("collapsed")}
    boxes = {
        f"{n['type']} {n['id']}": n["box"] for n in seen["nodes"] if str(n["id"]) not in folded
    }
    for who, (left, top, width, height) in boxes.items():
        for group in seen["groups"]:
            x, y, wide, high = group["box"]
            if x <= left <= x + wide and y <= top <= y + high:
                inside = left + width <= x + wide + 1 and top + height <= y + high + 1
                assert inside, f"{who} grows out of {group['title']}"
        for other, (x, y, wide, high) in boxes.items():
            apart = x >= left + width or left >= x + wide or y >= top + height or top >= y + high
            assert apart or other == who, f"{who} lies on {other}"


def take_pictures(page: Browser, name: str, folder: Path) -> None:
    """The window, and each stage of the workflow alone: in the whole of it no word can be read."""
    folder.mkdir(parents=True, exist_ok=True)
    page.ask("screenshot", path=str(folder / f"{name}.png"))
    workflow = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    for place, group in enumerate(workflow["groups"], 1):
        left, top, width, height = group["bounding"]
        inside = [
            node["id"]
            for node in workflow["nodes"]
            if left <= node["pos"][0] < left + width and top <= node["pos"][1] < top + height
        ]
        page.ask("screenshot", path=str(folder / f"{name}_{place}.png"), nodes=inside)


@pytest.mark.parametrize("name", RUNNABLE)
def test_workflow_runs_in_the_frontend(name: str, page: Browser, status: list[str]) -> None:
    seen = opened(page, name)
    changes = {} if FULL else quick_changes(seen["api"])
    # Two workflows have the same fine-tune: each shall do its own, not take the other's result.
    for node_id in changes:
        if seen["api"][node_id]["class_type"] == "TVEraseConceptFinetune":
            changes[node_id] = {**changes[node_id], "seed": NAMES.index(name)}
    runs(page, name, changes)
    status.append("runs")


@pytest.mark.parametrize("name", ["apply_vector"])
def test_a_saved_vector_is_chosen_and_applied(
    name: str, server: Client, page: Browser, status: list[str]
) -> None:
    learn = quick("erase_concept")
    (saver,) = [i for i, node in learn.items() if node["class_type"] == "TVEraseSaveTaskVector"]
    file = server.run(learn)[saver]["text"][0].removeprefix("loras/")
    page.ask("refresh")  # the R key: the list of files
    seen = opened(page, name)
    (loader,) = [i for i, n in seen["api"].items() if n["class_type"] == "TVEraseLoadTaskVector"]
    runs(page, name, {**quick_changes(seen["api"]), loader: {"file": file}})
    status.append("runs, on a vector that `erase_concept` saved")


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_only_the_checkpoint_is_missing(name: str, page: Browser, status: list[str]) -> None:
    seen = opened(page, name)
    refused = page.run(TIMEOUT_S)
    assert refused["event"] == "refused"
    faults = {
        i: [e["extra_info"]["input_name"] for e in n["errors"]]
        for i, n in refused["detail"].items()
    }
    (loader,) = [i for i, n in seen["api"].items() if n["class_type"] == "CheckpointLoaderSimple"]
    assert faults == {loader: ["ckpt_name"]}
    page.ask("refresh")
    runs(page, name, {**smallest(seen["api"]), loader: {"ckpt_name": "tiny.safetensors"}})
    status.append("right up to the loader; runs on a tiny stand-in checkpoint")


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_only_the_files_are_missing(
    name: str, server: Client, page: Browser, status: list[str]
) -> None:
    """Of the transformers that people run: their files, then tiny ones of the same names."""
    seen = opened(page, name)
    refused = page.run(TIMEOUT_S)
    assert refused["event"] == "refused"
    faults = {
        e["extra_info"]["input_name"] for n in refused["detail"].values() for e in n["errors"]
    }
    assert faults == set(build.NEEDS[name])
    status.append("right up to the loaders")
    if stand_ins.why_none(name) is None:
        with stand_ins.placed(server.base, name):
            page.ask("refresh")
            runs(page, name, smallest(seen["api"]))
        status.append("right up to the loaders; runs on tiny stand-ins")


@pytest.fixture(params=["canvas", "Nodes 2.0"])
def rendered(request: pytest.FixtureRequest, page: Browser) -> Iterator[Browser]:
    """The page with its nodes drawn on the canvas, and as elements of the page."""
    modern = request.param == "Nodes 2.0"
    if modern:
        page.ask("setting", name=NODES_2, value=True)
    page.elements = modern
    yield page
    page.elements = False
    if modern:
        page.ask("setting", name=NODES_2, value=False)


def test_a_cancelled_run_says_so_and_can_be_queued_again(rendered: Browser) -> None:
    seen = opened(rendered, "erase_concept")
    changes = quick_changes(seen["api"])
    (tuner,) = [i for i, n in seen["api"].items() if n["class_type"] == "TVEraseConceptFinetune"]
    rendered.ask("set", changes={**changes, tuner: {**changes[tuner], "steps": 5000, "seed": 77}})
    assert rendered.run(TIMEOUT_S, cancel_at=int(tuner))["event"] == "execution_interrupted"
    assert rendered.ask("texts")["texts"][tuner] == "cancelled"
    runs(rendered, "erase_concept", {tuner: {"steps": 2}})


def test_after_a_run_a_node_shows_its_result_alone(rendered: Browser) -> None:
    """Not the last picture of the work as well; the canvas would show that one instead."""
    name = "erase_concept"
    seen = opened(rendered, name)
    changes = quick_changes(seen["api"])
    (tuner,) = [i for i, n in seen["api"].items() if n["class_type"] == "TVEraseConceptFinetune"]
    seed = 98 if rendered.elements else 99  # nodes that need not run tell of no pictures
    runs(rendered, name, {**changes, tuner: {**changes[tuner], "seed": seed}})
    assert set(rendered.ask("pictures")["wide"][tuner]) == {640}  # the live one is 400 wide


def test_widgets_keep_their_values(page: Browser) -> None:
    seen = opened(page, "erase_concept_auto")
    shipped = page.ask("values")["values"]
    page.ask("set", changes=quick_changes(seen["api"]))
    changed = page.ask("values")["values"]
    assert changed != shipped
    page.ask("reopen", name="tverase_kept")
    assert page.ask("values")["values"] == changed


def chosen_preset(page: Browser, node: str, name: str) -> tuple[dict[str, Any], str]:
    """Applies a preset through the node's right-click menu; its values, and what is told."""
    titles, kind = PRESETS["titles"], api("erase_concept_auto")[node]["class_type"]
    seen = page.ask("menu", node=node, path=[PRESETS["words"]["menu"], titles[name]])
    assert seen["offered"] == [titles[one] for one in PRESETS["nodes"][kind]]
    assert [error for error in page.errors if "/extensions/tverase/" in error] == []
    return PRESETS["nodes"][kind][name]["values"], seen["told"][-1]


def test_presets_are_written_into_the_widgets(
    rendered: Browser, request: pytest.FixtureRequest
) -> None:
    page = rendered
    if "Nodes 2.0" in request.node.name and browser.host_version() < EXTENDED_MENUS:
        pytest.skip("the menus of this frontend's Nodes 2.0 show nothing of any extension")
    opened(page, "erase_concept_auto")
    before = page.ask("values")["values"]
    nodes = {n["class_type"]: i for i, n in api("erase_concept_auto").items()}
    set_up = {nodes[kind]: name for kind, name in PRESET_OF.items()}
    wanted = {}
    for node, name in set_up.items():
        preset, told = chosen_preset(page, node, name)
        wanted[node] = {**before[node], **preset}
        changed = {key: value for key, value in preset.items() if value != before[node][key]}
        assert changed
        assert all(f"{key} " in told for key in changed), told
    assert page.ask("values")["values"] == {**before, **wanted}
    page.ask("reopen", name="tverase_preset")
    assert page.ask("values")["values"] == {**before, **wanted}


@pytest.mark.parametrize("words", ["remove concept", "forget concept"])
def test_the_search_knows_what_people_call_it(server: Client, page: Browser, words: str) -> None:
    """`erase` alone cannot be led: the host ranks class names, and each of ours has it."""
    if "search_aliases" not in server.object_info()["TVEraseApplyNegatedTV"]:
        pytest.skip("this ComfyUI tells the browser no other names of nodes")
    found = page.ask("search", words=words)["found"]
    assert found[:2] == ["TVEraseApplyNegatedTV", "TVEraseConceptFinetune"]


def test_help_pages_open(page: Browser, pack: Any) -> None:
    for name, title in pack.NODE_DISPLAY_NAME_MAPPINGS.items():
        seen = page.ask("help", type=name, title=title)
        assert "Example" in seen["text"], name
        assert seen["images"], name
        assert all(width > 100 for width in seen["images"]), f"{name}: a picture does not load"


def test_help_pages_open_in_chinese(page: Browser, pack: Any) -> None:
    name = "TVEraseAutoStrength"
    page.ask("setting", name="Comfy.Locale", value="zh")
    try:
        seen = page.ask("help", type=name, title=pack.NODE_DISPLAY_NAME_MAPPINGS[name])
    finally:
        page.ask("setting", name="Comfy.Locale", value="en")
    assert "示例" in seen["text"]
    assert seen["images"]
    assert all(width > 100 for width in seen["images"])


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


def test_the_blueprint_runs_in_the_frontend(server: Client, page: Browser) -> None:
    seen = page.ask("open", workflow=around_blueprint())
    assert seen["missing"] == []
    small = {"prompt": "a dog", "count": 4, "width": 64, "height": 64, "steps": 2}
    page.ask("set", changes={"1": small})
    ended = page.run(TIMEOUT_S)
    assert ended["event"] == "execution_success", ended
    drawn = [n for n in seen["api"].values() if n["class_type"] == "TVEraseConceptSetFromPrompt"]
    assert len(drawn) == 1
    saved = (server.base / "output" / "loras" / "task_vectors").glob("blueprint*")
    assert [path for path in saved if path.stat().st_size > 1_000_000]
