"""Presets hold values that the nodes take, and tell whose numbers they are.

tests/texts/test_browser.py applies one on the real canvas.
"""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from host_support.places import ROOT

PRESETS = json.loads((ROOT / "web" / "presets.json").read_text("utf-8"))
NODES = list(PRESETS["nodes"])
EVERY = [(node, name) for node in NODES for name in PRESETS["nodes"][node]]
# What the paper's code says; see the tooltips. All other numbers of the pack are its own choice.
PAPERS_OWN = {
    "TVEraseConceptSetFromPrompt": {"count": 200, "steps": 50, "cfg": 7.5},
    "TVEraseConceptFinetune": {
        "steps": 200,
        "learning_rate": 1e-5,
        "batch_size": 16,
        "flip": True,
        "ema": True,
        "weight_decay": 0.01,
        "gradient_clip": 1.0,
        "rank": 0,
        "least_noise": 0.0,
        "rate_schedule": "constant",
        "guidance": 0.0,
        "noise_sampling": "uniform",
    },
}
# Where the nodes' defaults are not the paper's.
NOT_THE_DEFAULT = {
    ("TVEraseConceptSetFromPrompt", "steps"),
    ("TVEraseConceptFinetune", "rank"),  # the default chooses by the model's size
}


def values(node: str, name: str) -> dict[str, Any]:
    return dict(PRESETS["nodes"][node][name]["values"])


def middle(node: str) -> str:
    """The preset between quick and thorough."""
    return "paper" if node in PAPERS_OWN else "defaults"


def widgets(pack: Any, node: str) -> dict[str, Any]:
    groups = pack.NODE_CLASS_MAPPINGS[node].INPUT_TYPES()
    return {**groups["required"], **groups.get("optional", {})}


def filled_in(pack: Any, node: str, name: str) -> dict[str, Any]:
    """All widgets of the node at their defaults, but those of the preset."""
    specs = widgets(pack, node).items()
    defaults = {key: spec[1]["default"] for key, spec in specs if "default" in spec[1]}
    return {**defaults, **values(node, name)}


@pytest.mark.parametrize(("node", "name"), EVERY)
def test_the_node_takes_every_value(node: str, name: str, pack: Any) -> None:
    specs = widgets(pack, node)
    types = {"INT": int, "FLOAT": float, "BOOLEAN": bool}
    for key, value in values(node, name).items():
        kind, options = specs[key]
        if isinstance(kind, list):
            assert value in kind
            continue
        assert type(value) is types[kind], key
        if kind != "BOOLEAN":
            assert options["min"] <= value <= options["max"], key


@pytest.mark.parametrize("node", NODES)
def test_one_preset_replaces_another(node: str) -> None:
    assert list(PRESETS["nodes"][node]) == ["quick", middle(node), "thorough"]
    quick, usual, thorough = (values(node, name) for name in PRESETS["nodes"][node])
    assert set(quick) == set(usual) == set(thorough)
    assert quick != usual != thorough


@pytest.mark.parametrize("node", NODES)
def test_only_the_papers_numbers_bear_its_name_and_the_middle_is_the_default(
    node: str, pack: Any
) -> None:
    specs, usual = widgets(pack, node), values(node, middle(node))
    assert PAPERS_OWN.get(node, usual).items() == usual.items()
    for key, value in usual.items():
        if (node, key) not in NOT_THE_DEFAULT:
            assert value == specs[key][1]["default"], key


@pytest.mark.parametrize(("node", "name"), EVERY)
def test_it_says_whose_numbers_they_are(node: str, name: str) -> None:
    note = PRESETS["nodes"][node][name]["note"]
    assert ("our choice" in note.lower()) is (name != "paper")
    assert "\n" not in note
    assert len(note) <= 120


@pytest.mark.parametrize("name", ["quick", "middle", "thorough"])
def test_the_engines_take_the_settings(name: str, pack: Any) -> None:
    """Auto-Strength refuses a target that its pictures cannot show."""

    def made(module: str, builder: str, node: str) -> Any:
        found = importlib.import_module(f"{pack.__name__}.nodes.{module}")
        chosen = middle(node) if name == "middle" else name
        return getattr(found, builder)(filled_in(pack, node, chosen))

    made("finetune.finetune_settings", "finetune_config", "TVEraseConceptFinetune")
    search = made("strength.strength_settings", "search_config", "TVEraseAutoStrength")
    assert search.rule.most_hits(len(search.seeds)) >= 0
    made("inversion.inversion_settings", "inversion_config", "TVEraseDiverseInversion")


@pytest.mark.parametrize("name", PRESETS["nodes"]["TVEraseConceptFinetune"])
def test_a_weight_can_move_as_far_as_in_the_paper(name: str) -> None:
    """Adam moves a weight by about its rate a step, so strengths stay of one size."""
    tuned = values("TVEraseConceptFinetune", name)
    assert tuned["steps"] * tuned["learning_rate"] == pytest.approx(200 * 1e-5)


@pytest.mark.parametrize("node", NODES)
def test_the_help_page_tells_of_them(node: str) -> None:
    page = (ROOT / "web" / "docs" / f"{node}.md").read_text("utf-8")
    told = page.partition("## Presets")[2].partition("\n## ")[0]
    assert PRESETS["words"]["menu"] in told
    for name, preset in PRESETS["nodes"][node].items():
        assert f"- *{PRESETS['titles'][name]}*: {preset['note']}" in told
