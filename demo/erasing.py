"""The demo's steps on a server, and the files that they leave."""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch
from judge_network import DemoJudge, load_demo_judge
from PIL import Image

from demo import findings, steps, words
from demo.kept_steps import KeptSteps
from devtools.api_graph import API_GRAPHS, node_of, read_graph, sampling_of
from devtools.client import Client
from devtools.figures import figures_document, figures_table, write_figures
from devtools.follow import Follower
from devtools.machine import cpu_name
from devtools.terminal import Terminal
from tverase_core.judging.scoring import ScoreRow

FIRST_SEED = 100_000  # far from the seeds of the concept's own pictures
LIMITS = (
    "the strength was chosen by a person, for 'cat'; the automatic graph measures it",
    "few pictures were drawn, so the intervals are wide",
)


class Demo:
    """One run on one server."""

    def __init__(
        self, options: argparse.Namespace, client: Client, kept: KeptSteps, terminal: Terminal
    ):
        self.options, self.client, self.kept, self.terminal = options, client, kept, terminal
        workflow = read_graph(API_GRAPHS / f"{options.workflow}.json")
        self.graph = steps.for_concept(workflow, options.concept)
        self.sampling = sampling_of(self.graph)

    def step(self, graph: steps.Graph, labels: Mapping[str, str]) -> dict[str, Any]:
        """Outputs of a graph by node id, from the server or from the run that was stopped."""
        before = self.kept.outputs(graph)
        if before is not None:
            return before

        def found(name: str, output: Mapping[str, Any], said: Sequence[str]) -> str:
            return words.found_by(graph[name], output, said)

        follower = Follower(self.terminal, labels, found)
        outputs = self.client.run(graph, follower, stalled_s=None)
        self.kept.keep(graph, outputs)
        return outputs

    def named_step(self, graph: steps.Graph) -> dict[str, Any]:
        """The same, with a stage in the terminal for each node."""
        return self.step(graph, words.labels_of(graph))

    def erase(self) -> dict[str, Any]:
        """Learn, search, measure, each saved as it comes; the graph that erases, and its facts."""
        concept = self.options.concept
        learned = self.named_step(steps.learning(self.graph))
        place = learned[node_of(self.graph, "TVEraseSaveTaskVector")]["text"][0]
        self.bring(place, f"{concept}.tv.safetensors")
        graph = steps.with_vector(self.graph, place.partition("/")[2])
        if not steps.measures(graph):
            self.graph = graph
            return {"strength": steps.input_of(graph, "TVEraseApplyNegatedTV", "strength")}
        place = self.named_step(steps.searching(graph, concept))["save set"]["text"][0]
        self.bring(place, f"{concept}.inversions.safetensors")
        graph = steps.with_set(graph, place.partition("/")[2])
        auto = node_of(graph, "TVEraseAutoStrength")
        measured = self.named_step(steps.measuring(graph))[auto]
        (self.options.output / "strength.txt").write_text(measured["text"][0] + "\n", "utf-8")
        strength = measured["strength"][0]
        self.graph = steps.with_strength(graph, strength)
        return {"strength": strength, "how it was chosen": measured["text"][0]}

    def bring(self, place: str, name: str) -> None:
        """Copy a file of the server's output folder to where the user looks."""
        folder, _, file = place.rpartition("/")
        content = self.client.view({"filename": file, "subfolder": folder, "type": "output"})
        (self.options.output / name).write_bytes(content)

    def look(self, judge: DemoJudge) -> tuple[list[ScoreRow], list[tuple[str, torch.Tensor]]]:
        """Draw every object with the base and the erased model: scores, rows of the grid."""
        rows: list[ScoreRow] = []
        shown: list[tuple[str, torch.Tensor]] = []
        concept, others = self.options.concept, self.options.others
        kinds = [name for name in judge.objects if name != concept]
        for name in [concept, *kinds[: self.options.kinds]]:
            prompt, count = f"a {name}", self.options.count if name == concept else others
            self.terminal.begin(f"drawing {prompt!r}, before and after")
            graph = steps.drawing(self.graph, prompt, count, self.sampling, FIRST_SEED)
            outputs = self.step(graph, {})
            pictures = saved_pictures(self.client, outputs)
            scores = {tag: judge.score(pictures[tag], name) for tag in pictures}
            hits = {tag: int((score >= 0.5).sum()) for tag, score in scores.items()}
            self.terminal.end(f"seen in {hits['base']} of {count}, now in {hits['erased']}")
            role = "target" if name == concept else "retained"
            rows += findings.score_rows(role, name, prompt, scores["base"], scores["erased"])
            if len(shown) < 12:
                shown += [(f"{prompt}\nbefore", pictures["base"]), ("after", pictures["erased"])]
        return rows, shown

    def run(self) -> None:
        """The whole, and the files it leaves."""
        began, options, output = time.monotonic(), self.options, self.options.output
        chosen = self.erase()
        rows, shown = self.look(load_demo_judge(findings.MODEL / "demo_judge.safetensors"))
        findings.draw_grid(shown, output / "grid.png")
        warnings = ["The strength was chosen on other seeds than those of this report."]
        report = findings.write_report(
            output,
            options.concept,
            rows,
            findings.MODEL / f"{'demo_flow' if options.flow else 'demo_model'}.safetensors",
            output / f"{options.concept}.tv.safetensors",
            {"width": 64, "height": 64, "sampler_seed": FIRST_SEED, **self.sampling, **chosen},
            environment(self.client),
            LIMITS if options.quick else warnings,
        )
        seconds = None if self.kept.from_before else time.monotonic() - began
        self.tell(report["summary"], seconds)
        self.kept.clear()

    def tell(self, summary: Mapping[str, Any], seconds: float | None) -> None:
        """Figures and where the time went, as files and in the terminal."""
        output, terminal = self.options.output, self.terminal
        times = {"stages": terminal.seconds, "silent_seconds_longest": terminal.longest_silence}
        (output / "seconds.json").write_text(json.dumps(times, indent=1) + "\n", "utf-8")
        figures = findings.demo_figures(summary, seconds)
        if self.options.quick:
            after, kept = figures["target_hit_after"].value, figures["retained_ratio"].value
            terminal.line(
                f"{self.options.concept!r} is seen in {after:.0%} of its pictures; others keep "
                f"{kept:.0%} of their hits. A quick look: {'; '.join(LIMITS)}."
            )
        else:
            document = figures_document(
                "demo",
                "python dev.py demo --flow" if self.options.flow else "python dev.py demo",
                datetime.now(timezone.utc).strftime("%Y-%m-%d"),
                environment(self.client),
                figures,
            )
            write_figures(output / "figures.json", document)
            terminal.line(figures_table(document))
        terminal.line(f"look at {output}/grid.png and {output}/report.md")


def saved_pictures(client: Client, outputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """What `steps.drawing` saved by the "base" and the "erased", float32 [n, H, W, 3] in 0..1."""
    made: dict[str, torch.Tensor] = {}
    for tag in ("base", "erased"):
        files = [io.BytesIO(client.view(entry)) for entry in outputs[f"s_{tag}"]["images"]]
        images = [np.asarray(Image.open(f).convert("RGB"), dtype=np.float32) / 255 for f in files]
        made[tag] = torch.from_numpy(np.stack(images))
    return made


def environment(client: Client) -> dict[str, Any]:
    """What the figures were measured on."""
    system = client.get("/system_stats")["system"]
    return {
        "cpu": cpu_name(),
        "device": "cpu",
        "torch": torch.__version__,
        "host": f"ComfyUI {system.get('comfyui_version', 'unknown')}",
    }
