"""A demo on a real server that is stopped after each step, and goes on without doing it again."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from demo import steps
from demo.kept_steps import KeptSteps
from demo.options import parsed
from devtools.client import Watch
from devtools.in_process import ROOT
from devtools.terminal import Terminal
from host_support.client import Client

pytestmark = pytest.mark.training
SMALL: dict[str, dict[str, Any]] = {
    "TVEraseConceptSetFromPrompt": {"count": 4, "steps": 2},
    "TVEraseConceptFinetune": {"steps": 3, "batch_size": 2},
    "TVEraseDiverseInversion": {"count": 2, "steps": 2, "batch": 1, "checks": 1, "start": "cat"},
    "TVEraseAutoStrength": {
        "retained": "a dog | dog",
        "target": 0.9,
        "pictures_per_trigger": 4,
        "pictures_per_retained": 2,
        "max_strength": 1.0,
        "step": 0.5,
        "verify": False,
    },
}


class Stopping(Client):
    """A client whose user presses Ctrl-C after so many graphs; `asked`: the node types of each."""

    def __init__(self, url: str, base: Path):
        super().__init__(url, base)
        self.patience, self.asked = 0, list[set[str]]()

    def run(
        self,
        prompt: Mapping[str, Any],
        watch: Watch | None = None,
        stalled_s: float | None = 300.0,
    ) -> dict[str, Any]:
        if len(self.asked) == self.patience:
            raise KeyboardInterrupt
        self.asked.append({made["class_type"] for made in prompt.values()})
        return super().run(prompt, watch, 300.0)


@pytest.fixture
def demo_class(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "demo"))
    from demo.erasing import Demo

    return Demo


def small(graph: steps.Graph) -> steps.Graph:
    """The workflow with a fraction of the work."""
    made = {
        name: {**node, "inputs": {**node["inputs"], **SMALL.get(node["class_type"], {})}}
        for name, node in graph.items()
    }
    for node in made.values():
        node["inputs"].pop("block_mask", None)
    return made


def test_a_demo_stopped_after_each_step_goes_on_and_ends_well(
    server: Client, demo_class: Any, tmp_path: Path
) -> None:
    client, output = Stopping(server.url, server.base), tmp_path / "out"
    output.mkdir()
    options = parsed(["--output", str(output), "--count", "2", "--others", "2"])
    options.kinds = 1
    left = []
    for client.patience in range(6):
        kept = KeptSteps(tmp_path / "kept", "code")
        terminal = Terminal(io.StringIO())
        demo = demo_class(options, client, kept, terminal)
        demo.graph = small(demo.graph)
        if client.patience == 5:
            demo.run()
        else:
            with pytest.raises(KeyboardInterrupt):
                demo.run()
        left.append({path.name for path in output.iterdir()})
    own = [{kind.removeprefix("TVErase") for kind in kinds} for kinds in client.asked]
    assert ["ConceptFinetune" in kinds for kinds in own] == [True, False, False, False, False]
    assert ["DiverseInversion" in kinds for kinds in own] == [False, True, False, False, False]
    assert ["AutoStrength" in kinds for kinds in own] == [False, False, True, False, False]
    assert left[:4] == [
        set(),
        {"cat.tv.safetensors"},
        {"cat.tv.safetensors", "cat.inversions.safetensors"},
        {"cat.tv.safetensors", "cat.inversions.safetensors", "strength.txt"},
    ]
    assert {"grid.png", "report.md", "figures.json", "seconds.json"} <= left[5]
    figures = json.loads((output / "figures.json").read_text("utf-8"))["figures"]
    assert figures["demo_seconds"]["value"] is None  # nobody measured the whole
    assert not (tmp_path / "kept").exists()  # the next demo starts anew
    assert "seen in" in terminal.output.getvalue()
