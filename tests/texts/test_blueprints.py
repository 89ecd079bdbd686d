"""The subgraph blueprint: sound inside, served by ComfyUI, and a valid graph once unpacked."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import Any

import pytest
import requests

from devtools.blueprint import ENDS, ENTRY, EXIT
from devtools.workflow_graph import sockets
from host_support.client import Client
from workflows import blueprints, build

FILE = build.ROOT / "subgraphs" / f"{blueprints.NAME}.json"


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return dict(json.loads(FILE.read_text("ascii")))


@pytest.fixture(scope="module")
def definition(content: dict[str, Any]) -> dict[str, Any]:
    (one,) = content["definitions"]["subgraphs"]
    return dict(one)


def test_one_node_stands_for_the_subgraph(
    content: dict[str, Any], definition: dict[str, Any]
) -> None:
    (node,) = content["nodes"]
    assert node["type"] == definition["id"]
    assert [s["name"] for s in node["inputs"]] == list(blueprints.INPUTS)
    assert [s["name"] for s in node["outputs"]] == list(blueprints.OUTPUTS)


def test_links_agree_at_both_ends(definition: dict[str, Any]) -> None:
    nodes = {node["id"]: node for node in definition["nodes"]}
    assert not set(nodes) & set(ENDS.values())
    for link in definition["links"]:
        number, kind = link["id"], link["type"]
        if link["origin_id"] == ENDS[ENTRY]:
            start = definition["inputs"][link["origin_slot"]]
            assert number in start["linkIds"]
        else:
            start = nodes[link["origin_id"]]["outputs"][link["origin_slot"]]
            assert number in start["links"]
        if link["target_id"] == ENDS[EXIT]:
            end = definition["outputs"][link["target_slot"]]
            assert end["linkIds"] == [number]
        else:
            end = nodes[link["target_id"]]["inputs"][link["target_slot"]]
            assert end["link"] == number
        assert start["type"] == end["type"] == kind


def test_widgets_on_the_node_exist_inside(
    content: dict[str, Any], definition: dict[str, Any], pack: Any
) -> None:
    nodes = {str(node["id"]): node for node in definition["nodes"]}
    for node_id, name in content["nodes"][0]["properties"]["proxyWidgets"]:
        known = sockets(pack.NODE_CLASS_MAPPINGS[nodes[node_id]["type"]])
        assert name in [socket.name for socket in known if socket.is_widget]


def unpacked(definition: dict[str, Any], classes: Any) -> dict[str, Any]:
    """The API graph that the frontend would queue, fed by the demo model."""
    links = {link["id"]: link for link in definition["links"]}
    prompt: dict[str, Any] = {"demo": {"class_type": "TVEraseDemoModel", "inputs": {}}}
    for node in definition["nodes"]:
        if node["type"] not in classes:
            continue  # a note
        values, inputs = iter(node["widgets_values"]), {}
        for socket in sockets(classes[node["type"]]):
            if socket.is_widget:
                inputs[socket.name] = next(values)
                if socket.has_control:
                    next(values)
        for socket in node["inputs"]:
            if socket["link"] is not None:
                link = links[socket["link"]]
                from_outside = link["origin_id"] == ENDS[ENTRY]
                source = "demo" if from_outside else str(link["origin_id"])
                inputs[socket["name"]] = [source, link["origin_slot"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    ends = {link["type"]: link for link in links.values() if link["target_id"] == ENDS[EXIT]}
    vector = [str(ends["TASK_VECTOR"]["origin_id"]), ends["TASK_VECTOR"]["origin_slot"]]
    saved = {"task_vector": vector, "filename_prefix": "x", "dtype": "float32"}
    return {**prompt, "end": {"class_type": "TVEraseSaveTaskVector", "inputs": saved}}


def test_unpacked_it_is_a_valid_graph(
    definition: dict[str, Any], comfy_host: Any, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import execution

    for name, node_class in pack.NODE_CLASS_MAPPINGS.items():
        monkeypatch.setitem(comfy_host.nodes.NODE_CLASS_MAPPINGS, name, node_class)
    check = execution.validate_prompt
    prompt = unpacked(definition, pack.NODE_CLASS_MAPPINGS)
    words = ["id", prompt, None][-len(inspect.signature(check).parameters) :]
    answer = check(prompt) if len(words) == 1 else check(*words)
    if inspect.isawaitable(answer):
        answer = asyncio.run(_settled(answer))
    valid, error, outputs, node_errors = answer
    assert valid, (error, node_errors)
    assert outputs == ["end"]


async def _settled(answer: Any) -> Any:
    return await answer


def test_the_server_hands_it_out(server: Client, content: dict[str, Any]) -> None:
    try:
        listed = server.get("/global_subgraphs")
    except requests.HTTPError:
        pytest.skip("this ComfyUI does not serve blueprints (0.3.67 and newer do)")
    ((number, entry),) = [(k, v) for k, v in listed.items() if v["name"] == blueprints.NAME]
    assert entry["info"]["node_pack"] == "custom_nodes.tverase"
    assert json.loads(server.get(f"/global_subgraphs/{number}")["data"]) == content
