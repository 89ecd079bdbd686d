"""One run of a tree's demo, of its straight graph too, on a server of its own."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from judge_network import load_demo_judge

from demo.erasing import FIRST_SEED, Demo, saved_pictures
from demo.findings import MODEL, score_rows
from demo.kept_steps import KeptSteps
from demo.options import parsed
from demo.steps import Graph, drawing
from devtools.api_graph import read_graph, sampling_of
from devtools.client import PromptFailed, ServerGone
from devtools.hosts import Host
from devtools.install import SetupError
from devtools.server import PACK, Server
from devtools.terminal import Terminal
from tverase_core.judging.scoring import ScoreRow
from tverase_core.report.document import summary

from .timed_client import TimedClient

STRAIGHT, AUTOMATIC = "erase_concept", "erase_concept_auto"
STAGES = {
    "TVEraseConceptSetFromPrompt": "concept_sets",
    "TVEraseConceptFinetune": "finetune",
    "TVEraseDiverseInversion": "inversion",
    "TVEraseAutoBlockMask": "block_mask",
    "TVEraseAutoStrength": "strength",
    "KSampler": "drawing",
}


@dataclass(frozen=True)
class DemoRun:
    """What one run took and gave.

    seconds, cpu_seconds: of the demo, by the clock and by the server's processor time; stages:
    seconds by stage; first_picture_s: until the straight graph had saved an erased picture;
    target_hit_after, retained_ratio: as in the demo's figures, each {value, n, interval}; silence:
    the longest in the demo's terminal, None where the tree's demo does not measure it.
    """

    seconds: float
    cpu_seconds: float
    stages: dict[str, float]
    first_picture_s: float
    target_hit_after: dict[str, Any]
    retained_ratio: dict[str, Any]
    silence: float | None

    def document(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def served(tree: Path, comfyui: Path, work: Path) -> Iterator[tuple[TimedClient, psutil.Process]]:
    """A fresh ComfyUI with the pack of that tree; one graph's work is not the next one's cache."""
    host = Host(comfyui.name, comfyui)
    with tempfile.TemporaryDirectory(dir=work) as base:
        server = Server(
            host,
            Path(sys.executable),
            os.cpu_count() or 1,
            base=Path(base),
            extra_packs={PACK: tree},
            own_pack=False,
        )
        with server:
            assert server.process is not None
            try:
                yield TimedClient(server.url, Path(base)), psutil.Process(server.process.pid)
            except (ServerGone, PromptFailed) as problem:
                raise SetupError(f"{tree.name}: {problem}. {server.log_says()}") from problem


def graph_of(tree: Path, name: str) -> Graph:
    return read_graph(tree / "workflows" / "api" / f"{name}.json")


def first_picture(tree: Path, comfyui: Path, work: Path) -> float:
    """Seconds from pressing Run on the straight graph until an erased picture is saved."""
    with served(tree, comfyui, work) as (client, _):
        client.run(graph_of(tree, STRAIGHT))
    assert client.first_saved is not None, f"the graph of {tree.name} saves no picture"
    return client.first_saved


def run_demo(tree: Path, comfyui: Path, work: Path, *, own: bool) -> DemoRun:
    """The tree's demo of the automatic graph. own: the tree is this one, so its demo can run."""
    began_with = first_picture(tree, comfyui, work)
    with served(tree, comfyui, work) as (client, process):
        before, began = _cpu(process), time.monotonic()
        found, silence = _own_demo(client, work) if own else (_former_demo(tree, client), None)
        seconds, cpu = time.monotonic() - began, _cpu(process) - before
    stages: dict[str, float] = {}
    for kind, spent in client.seconds.items():
        stage = STAGES.get(kind, "rest")
        stages[stage] = stages.get(stage, 0.0) + spent
    hit, kept = found["target_after"], found["retained_ratio"]
    return DemoRun(
        seconds,
        cpu,
        stages,
        began_with,
        {"value": hit["rate"], "n": hit["n"], "interval": hit["interval"]},
        {"value": kept["value"], "n": kept["n"], "interval": kept["interval"]},
        silence,
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _own_demo(client: TimedClient, work: Path) -> tuple[dict[str, Any], float]:
    """(summary, longest silence) of today's demo, its terminal in a file."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        output = Path(folder) / "output"
        output.mkdir()
        options: argparse.Namespace = parsed(["--output", str(output)])
        with (work / "terminal.txt").open("w", encoding="utf-8") as lines:
            terminal = Terminal(lines, bars=False)
            Demo(options, client, KeptSteps(Path(folder) / "kept", "pace"), terminal).run()
        report = json.loads((output / "report.json").read_text("utf-8"))
    return dict(report["summary"]), terminal.longest_silence


def _former_demo(tree: Path, client: TimedClient) -> dict[str, Any]:
    """Summary of the demo as commit 950c872 ran it: every prompt with the whole graph, of which the
    server computes only what is new."""
    workflow, options = graph_of(tree, AUTOMATIC), parsed([])
    erasing = {
        name: made
        for name, made in workflow.items()
        if made["class_type"].startswith("TVErase")
        and made["class_type"] != "TVEraseBeforeAfterGrid"
    }
    judge = load_demo_judge(MODEL / "demo_judge.safetensors")
    rows: list[ScoreRow] = []
    for name in [options.concept, *(n for n in judge.objects if n != options.concept)]:
        target = name == options.concept
        prompt, count = f"a {name}", options.count if target else options.others
        pictures = drawing(workflow, prompt, count, sampling_of(workflow), FIRST_SEED)
        outputs = client.run({**erasing, **pictures})
        shown = saved_pictures(client, outputs)
        scores = [judge.score(shown[tag], name) for tag in ("base", "erased")]
        rows += score_rows("target" if target else "retained", name, prompt, *scores)
    return summary(rows)
