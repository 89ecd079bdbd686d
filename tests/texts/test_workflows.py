"""The shipped workflows: made by their script, accepted and run by a real ComfyUI."""

from __future__ import annotations

import asyncio
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from devtools import in_process
from devtools.workflow_graph import FOLDED
from host_support import stand_ins
from host_support.client import Client
from host_support.quick_workflows import FOLDER, NAMES, RUNNABLE, api, quick, smallest
from workflows import build
from workflows.flow_families import FAMILIES


@pytest.fixture
def all_nodes(comfy_host: Any, pack: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The host's nodes with ours among them."""
    in_process.load_stock_nodes(comfy_host)
    for name, node_class in pack.NODE_CLASS_MAPPINGS.items():
        monkeypatch.setitem(comfy_host.nodes.NODE_CLASS_MAPPINGS, name, node_class)
    return comfy_host.nodes


def test_files_are_what_the_script_writes(all_nodes: Any, comfy_host: Any, pack: Any) -> None:
    version = comfy_host.tree / "comfyui_version.py"
    if not version.exists() or f'"{build.COMFYUI}"' not in version.read_text("utf-8"):
        pytest.skip(f"the workflows are written with ComfyUI {build.COMFYUI}")
    names = {**all_nodes.NODE_DISPLAY_NAME_MAPPINGS, **pack.NODE_DISPLAY_NAME_MAPPINGS}
    for path, text in build.render(all_nodes.NODE_CLASS_MAPPINGS, names).items():
        assert (FOLDER.parent / path).read_bytes() == text.encode(), (
            f"run `dev.py workflows` for {path}"
        )


@pytest.mark.parametrize("name", NAMES)
def test_links_agree_at_both_ends(name: str) -> None:
    graph = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    nodes = {node["id"]: node for node in graph["nodes"]}
    for number, source, out_slot, target, in_slot, kind in graph["links"]:
        assert number in nodes[source]["outputs"][out_slot]["links"]
        assert nodes[target]["inputs"][in_slot]["link"] == number
        assert nodes[target]["inputs"][in_slot]["type"] == kind


def size_of(node: dict[str, Any]) -> tuple[int, int]:
    """Width and height below its title."""
    return (FOLDED, 0) if node["flags"].get("collapsed") else tuple(node["size"])


@pytest.mark.parametrize("name", NAMES)
def test_groups_do_not_lie_on_each_other(name: str) -> None:
    groups = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["groups"]
    for i, one in enumerate(groups):
        x, y, width, height = one["bounding"]
        for other in groups[i + 1 :]:
            left, top, wide, high = other["bounding"]
            apart = x + width <= left or left + wide <= x or y + height <= top or top + high <= y
            assert apart, f"{one['title']} and {other['title']} overlap"


@pytest.mark.parametrize("name", NAMES)
def test_no_wire_turns_under_a_node(name: str) -> None:
    """Their points are links' own, form paths, and lie beside the nodes."""
    graph = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    points = {point["id"]: point for point in graph["extra"]["reroutes"]}
    passed: dict[int, set[int]] = {number: set() for number in points}
    for end in graph["extra"]["linkExtensions"]:
        at = end["parentId"]
        while at is not None:
            passed[at].add(end["id"])
            at = points[at].get("parentId")
    assert passed == {number: set(point["linkIds"]) for number, point in points.items()}
    assert set().union(*passed.values()) <= {link[0] for link in graph["links"]}
    for point in points.values():
        x, y = point["pos"]
        for node in graph["nodes"]:
            (left, top), (width, height) = node["pos"], size_of(node)
            inside = left < x < left + width and top - 30 < y < top + height
            assert not inside, f"a wire turns at {x}, {y} under node {node['id']}"


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_offered_are_those_that_are_loaded(name: str) -> None:
    graph = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    for node in graph["nodes"]:
        for model in node["properties"].get("models", []):
            assert set(model) == {"name", "url", "directory"}
            assert model["name"] in node["widgets_values"]
            assert model["url"].startswith("https://")
            assert model["url"].endswith(f"/{model['name']}")


@pytest.mark.parametrize("name", ["erase_concept_sd15", "erase_concept_sdxl"])
def test_the_hosts_panel_can_bring_a_checkpoint(name: str) -> None:
    graph = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    offers = [node["properties"].get("models", []) for node in graph["nodes"]]
    assert [model["directory"] for models in offers for model in models] == ["checkpoints"]


@pytest.mark.parametrize("name", NAMES)
def test_thumbnails_fill_the_square_of_a_template_card(name: str) -> None:
    file = FOLDER / f"{name}.jpg"
    with Image.open(file) as picture:
        assert picture.size == (400, 400)
    assert file.stat().st_size < 40_000


@pytest.mark.parametrize("name", NAMES)
def test_nodes_do_not_lie_on_each_other(name: str) -> None:
    graph = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    boxes = [(n["id"], *n["pos"], *size_of(n)) for n in graph["nodes"]]
    title = 30
    for i, (one, x, y, width, height) in enumerate(boxes):
        for other, left, top, wide, high in boxes[i + 1 :]:
            apart = x + width <= left or left + wide <= x
            apart = apart or y + height <= top - title or top + high <= y - title
            assert apart, f"nodes {one} and {other} overlap"


@pytest.mark.parametrize("name", NAMES)
def test_api_twin_is_valid(
    name: str, all_nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import execution
    import folder_paths

    _, extensions = folder_paths.folder_names_and_paths["task_vectors"]
    nothing_saved = ([str(tmp_path)], extensions)  # other tests save vectors
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "task_vectors", nothing_saved)
    check = execution.validate_prompt
    prompt = api(name)
    words = ["id", prompt, None][-len(inspect.signature(check).parameters) :]
    answer = check(prompt) if len(words) == 1 else check(*words)
    valid, error, outputs, node_errors = asyncio.run(_settled(answer))
    if name in build.NEEDS:  # everything but the user's own file is right
        faults = [fault for node in node_errors.values() for fault in node["errors"]]
        assert {fault["extra_info"]["input_name"] for fault in faults} == set(build.NEEDS[name])
        return
    assert valid, (error, node_errors)
    assert node_errors == {}
    ends = {"SaveImage", "PreviewImage", "TVEraseSaveTaskVector"}
    assert {prompt[node_id]["class_type"] for node_id in outputs} == ends


async def _settled(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


def check_pictures(server: Client, prompt: dict[str, Any], outputs: dict[str, Any]) -> None:
    saved = {i for i, node in prompt.items() if node["class_type"] == "SaveImage"}
    assert saved
    for node_id in saved:
        (image,) = outputs[node_id]["images"]
        assert server.view(image).startswith(b"\x89PNG")


@pytest.mark.training
@pytest.mark.parametrize("name", RUNNABLE)
def test_api_twin_runs(name: str, server: Client) -> None:
    prompt = quick(name)
    check_pictures(server, prompt, server.run(prompt))
    # other tests save vectors of a tiny model beside it
    vectors = (server.base / "output" / "loras").rglob("*.tv.safetensors")
    assert max(vector.stat().st_size for vector in vectors) > 1_000_000


@pytest.mark.training
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_real_checkpoints_graph_runs_on_stand_ins(
    name: str, comfy_host: Any, server: Client
) -> None:
    """With files of the true key names, through the stock loaders, at a hundredth of the size."""
    lacking = stand_ins.why_none(name)
    if lacking:
        pytest.skip(lacking)
    prompt = api(name)
    for node_id, values in smallest(prompt).items():
        prompt[node_id]["inputs"].update(values)
    with stand_ins.placed(server.base, name):
        outputs = server.run(prompt)
    check_pictures(server, prompt, outputs)
    (eraser,) = [i for i, n in prompt.items() if n["class_type"] == "TVEraseApplyNegatedTV"]
    told = outputs.get(eraser, {}).get("text", [""])[0]
    # A distillate's weights are not those that the vector was learned on, and the node says so.
    assert ("holds other weights" in told) == (FAMILIES[name].used is not None)


@pytest.mark.training
def test_a_vector_that_one_workflow_saved_is_applied_by_another(server: Client) -> None:
    learn = quick("erase_concept")
    outputs = server.run(learn)
    (saver,) = [i for i, node in learn.items() if node["class_type"] == "TVEraseSaveTaskVector"]
    file = outputs[saver]["text"][0].removeprefix("loras/")
    prompt = quick("apply_vector")
    (loader,) = [i for i, node in prompt.items() if node["class_type"] == "TVEraseLoadTaskVector"]
    promised = prompt[loader]["inputs"]["file"]
    assert file.split("_0")[0] == promised.split("_0")[0]  # the same but for the number
    prompt[loader]["inputs"]["file"] = file
    check_pictures(server, prompt, server.run(prompt))


def test_every_node_has_a_help_page(pack: Any) -> None:
    folder = FOLDER.parent / "web" / "docs"
    assert {page.stem for page in folder.glob("*.md")} == set(pack.NODE_CLASS_MAPPINGS)
    for name, node_class in pack.NODE_CLASS_MAPPINGS.items():
        text = (folder / f"{name}.md").read_text("utf-8")
        assert text.startswith(f"# {pack.NODE_DISPLAY_NAME_MAPPINGS[name]}\n")
        assert "\n## Example\n" in text, f"{name}.md has no example"
        assert "](images/" in text, f"{name}.md has no picture"
        types = node_class.INPUT_TYPES()
        for part in ("required", "optional"):
            for socket in types.get(part, {}):
                assert f"`{socket}`" in text, f"{name}.md does not explain {socket}"
