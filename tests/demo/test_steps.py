"""The demo's graph in steps that go on from each other's files, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from demo import steps, words
from demo.kept_steps import KeptSteps
from demo.options import parsed
from devtools.api_graph import API_GRAPHS, node_of, read_graph

GRAPH = read_graph(API_GRAPHS / "erase_concept_auto.json")


def kinds(graph: steps.Graph) -> set[str]:
    return {made["class_type"].removeprefix("TVErase") for made in graph.values()}


def test_each_step_loads_what_the_last_one_saved() -> None:
    assert {"ConceptFinetune", "SaveTaskVector"} <= kinds(steps.learning(GRAPH))
    later = steps.with_vector(GRAPH, "a.tv.safetensors")
    search = steps.searching(later, "cat")
    assert {"DiverseInversion", "SaveInversionSet"} <= kinds(search)
    assert "ConceptFinetune" not in kinds(search)
    measure = steps.measuring(steps.with_set(later, "a.inversions.safetensors"))
    assert {"AutoStrength", "LoadTaskVector", "LoadInversionSet"} <= kinds(measure)
    last = steps.with_strength(steps.with_set(later, "a.inversions.safetensors"), 1.25)
    draw = steps.drawing(last, "a dog", 3, {"steps": 2}, 7)
    assert not {"ConceptFinetune", "DiverseInversion", "AutoStrength"} & kinds(draw)
    assert draw[node_of(draw, "TVEraseApplyNegatedTV")]["inputs"]["strength"] == 1.25
    for graph in (search, measure, draw):
        wires = [v for made in graph.values() for v in made["inputs"].values()]
        assert {wire[0] for wire in wires if isinstance(wire, list)} <= set(graph)


def test_the_sum_with_the_edit_of_the_words_is_saved_and_measured() -> None:
    both = [node_of(GRAPH, "TVEraseCombineTaskVectors"), 0]
    for kind in ("SaveTaskVector", "AutoStrength", "ApplyNegatedTV"):
        assert steps.input_of(GRAPH, f"TVErase{kind}", "task_vector") == both
    parts = GRAPH[both[0]]["inputs"]
    assert parts["first"] == [node_of(GRAPH, "TVEraseUCE"), 0]
    assert parts["second"] == [node_of(GRAPH, "TVEraseExtractTaskVector"), 0]
    assert {"UCE", "CombineTaskVectors"} <= kinds(steps.learning(GRAPH))
    search = steps.searching(steps.with_vector(GRAPH, "a.tv.safetensors"), "cat")
    assert not {"UCE", "CombineTaskVectors"} & kinds(search)


def test_the_workflow_is_not_changed() -> None:
    before = json.dumps(GRAPH)
    steps.for_concept(GRAPH, "dog")
    steps.searching(steps.with_vector(steps.learning(GRAPH) | GRAPH, "a"), "cat")
    assert json.dumps(GRAPH) == before


def test_another_concept_changes_places_with_the_written_one() -> None:
    made = steps.for_concept(GRAPH, "dog")
    pictures, kept = (
        made[steps.input_of(made, "TVEraseConceptFinetune", name)[0]]["inputs"]
        for name in ("concept_set", "retained_set")
    )
    assert pictures["concept"] == "dog"
    assert "cat" not in pictures["prompt"]
    words = made[node_of(made, "TVEraseUCE")]["inputs"]
    assert (words["concepts"], words["preserve"].splitlines()[0]) == ("dog", "cat")
    assert kept["prompt"].splitlines()[:2] == ["a cat", "a bird"]
    assert steps.for_concept(GRAPH, "cat") == GRAPH


def test_what_was_found_is_said_in_a_line() -> None:
    tune = {"class_type": "TVEraseConceptFinetune", "inputs": {}}
    said = ["step 9 of 9, loss 0.1250, 0 s left", "Memory beyond the model: 1 GiB"]
    assert words.found_by(tune, {"text": ["Memory"]}, said) == "loss 0.1250"
    search = {"class_type": "TVEraseDiverseInversion", "inputs": {"count": 12}}
    found = {"text": ["11 embeddings that draw 'cat'\ndenoising loss 0.1"]}
    assert words.found_by(search, found, []) == "12 triggers, 11 work"
    edit = {"class_type": "TVEraseUCE", "inputs": {}}
    assert words.found_by(edit, {}, ["diffusion_model.out.0.weight"]) == ""
    strength = {"class_type": "TVEraseAutoStrength", "inputs": {"target": 0.12}}
    rows = {"strength": [1.2], "triggers": [[0, 40], [4, 40], [5, 40]], "retained": [[9, 10]]}
    expected = "strength 1.2: 1 of 3 triggers left, 90 % kept"
    assert words.found_by(strength, rows, []) == expected


def test_every_stage_of_the_workflow_has_a_name() -> None:
    named = words.labels_of(GRAPH)
    unnamed = {m["class_type"] for name, m in GRAPH.items() if name not in named}
    quick = {"ApplyNegatedTV", "BeforeAfterGrid", "DemoJudge"}
    assert {kind for kind in unnamed if kind.startswith("TVErase")} == {
        f"TVErase{kind}" for kind in quick
    }
    tune = node_of(GRAPH, "TVEraseConceptFinetune")
    assert named[tune] == f"learning it in {GRAPH[tune]['inputs']['steps']} steps"


def test_a_finished_step_is_found_by_the_next_run_of_the_same_code(tmp_path: Path) -> None:
    folder, graph = tmp_path / "base", {"1": {"class_type": "A", "inputs": {"x": 1}}}
    first = KeptSteps(folder, "code")
    assert not first.from_before
    assert first.outputs(graph) is None
    first.keep(graph, {"1": {"text": ["done"]}})
    again = KeptSteps(folder, "code")
    assert again.from_before
    assert again.outputs(graph) == {"1": {"text": ["done"]}}
    assert again.outputs({"1": {"class_type": "A", "inputs": {"x": 2}}}) is None


@pytest.mark.parametrize("spoiled", ["", '{"basis": "co', '{"basis": "other", "steps": {}}'])
def test_work_that_cannot_be_used_is_deleted(tmp_path: Path, spoiled: str) -> None:
    folder, graph = tmp_path / "base", {"1": {}}
    KeptSteps(folder, "code").keep(graph, {})
    (folder / "output").mkdir()
    (folder / "kept.json").write_text(spoiled)
    fresh = KeptSteps(folder, "code")
    assert not fresh.from_before
    assert fresh.outputs(graph) is None
    assert not (folder / "output").exists()


def test_a_finished_demo_leaves_nothing_to_go_on_from(tmp_path: Path) -> None:
    kept = KeptSteps(tmp_path / "base", "code")
    kept.keep({"1": {}}, {})
    kept.clear()
    assert not KeptSteps(tmp_path / "base", "code").from_before


@pytest.mark.parametrize(
    ("given", "workflow"),
    [
        ([], "erase_concept_auto"),
        (["--quick"], "erase_concept"),
        (["--flow"], "erase_concept_flow_auto"),
        (["--flow", "--quick"], "erase_concept_flow"),
    ],
)
def test_each_model_has_a_measured_and_a_straight_graph(given: list[str], workflow: str) -> None:
    assert parsed(given).workflow == workflow
    graph = read_graph(API_GRAPHS / f"{workflow}.json")
    assert steps.measures(graph) is ("--quick" not in given)
    model = "flow" if "--flow" in given else "UNet"
    draw = steps.drawing(graph, "a dog", 3, {"steps": 2}, 7)
    assert steps.input_of(draw, "TVEraseDemoModel", "model") == model
