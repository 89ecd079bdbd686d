"""The stages of the automatic graph, run by the pack's nodes with the graph's own settings."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devtools.in_process import import_host, load_pack
from workflows.graph_parts import RETAINED_EACH

from .arithmetic import in_float32
from .concepts import ROOT, Concept


class Job:
    """The parts that every stage needs."""

    def __init__(
        self, comfyui: Path, concept: Concept, seed: int, graph: str = "erase_concept_auto"
    ):
        host = import_host(comfyui)
        self.folder = tempfile.TemporaryDirectory()  # the nodes' pictures; gone with the job
        host.folder_paths.set_temp_directory(self.folder.name)
        host.folder_paths.set_output_directory(self.folder.name)
        self.pack, self.concept, self.seed = load_pack(), concept, seed
        self.nodes = self.pack.NODE_CLASS_MAPPINGS
        nodes = json.loads((ROOT / "workflows" / "api" / f"{graph}.json").read_text())
        self.widgets: dict[str, dict[str, Any]] = {}
        tuned = next(n for n in nodes.values() if n["class_type"] == "TVEraseConceptFinetune")
        concept_set = nodes[tuned["inputs"]["concept_set"][0]]
        for node in (concept_set, *nodes.values()):  # the first of a type counts
            own = {k: v for k, v in node["inputs"].items() if not isinstance(v, list)}
            self.widgets.setdefault(node["class_type"], own)
        demo = self.nodes["TVEraseDemoModel"]()
        self.model, self.clip, self.vae = demo.load(**self.widgets["TVEraseDemoModel"])
        self.judge = self.nodes["TVEraseDemoJudge"]().load()[0]
        self.seconds: dict[str, float] = {}

    def settings(self, kind: str, **changed: Any) -> dict[str, Any]:
        """The workflow's widgets of a node type, with this job's seed."""
        values = {**self.widgets[kind], **changed}
        if "seed" in values:
            values["seed"] += 1000 * self.seed
        return values

    def timed(self, name: str, work: Callable[[], Any]) -> Any:
        began = time.monotonic()
        result = work()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began
        print(
            f"{self.concept.name}/{self.seed} {name} {time.monotonic() - began:.0f} s", flush=True
        )
        return result


@in_float32()
def learned_pictures(job: Job, **changed: Any) -> Any:
    """Stage 1 of the workflow: the concept's pictures; changed: other widgets."""
    return job.nodes["TVEraseConceptSetFromPrompt"]().draw(
        job.model,
        job.clip,
        **job.settings(
            "TVEraseConceptSetFromPrompt",
            prompt="\n".join(job.concept.learned),
            concept=job.concept.name,
            **{
                "caption": "\n".join(job.concept.captions),
                "caption_share": job.concept.caption_share,
                "contrast": "\n".join(job.concept.contrasts),
                **changed,
            },
        ),
    )[0]


@in_float32()
def retained_pictures(job: Job) -> Any:
    """What must stay: pictures of the tuning prompts, never of the reported ones."""
    prompts = [prompt for prompt, _ in job.concept.tuning]
    return job.nodes["TVEraseConceptSetFromPrompt"]().draw(
        job.model,
        job.clip,
        **job.settings(
            "TVEraseConceptSetFromPrompt",
            prompt="\n".join(prompts),
            concept="what must stay",
            caption="{prompt}",
            caption_share=1.0,
            count=RETAINED_EACH * len(prompts),
        ),
    )[0]


@in_float32()
def learned(job: Job) -> tuple[Any, Any]:
    """Stages 1 and 2: (concept set, task vector)."""
    drawn = learned_pictures(job)
    made = job.nodes["TVEraseConceptFinetune"]().tune(
        job.model,
        drawn,
        retained_set=retained_pictures(job),
        **job.settings("TVEraseConceptFinetune", least_noise=job.concept.least_noise),
    )
    return drawn, made["result"][2]


def inversions(job: Job, pictures: Any, **changed: Any) -> Any:
    """Stage 3: a validated inversion set."""
    return job.nodes["TVEraseDiverseInversion"]().invert(
        job.model,
        job.clip,
        job.vae,
        pictures,
        job.judge,
        **job.settings(
            "TVEraseDiverseInversion",
            prompt=job.concept.plain,
            template=job.concept.template,
            **changed,
        ),
    )["result"][0]


def defaults(node: Any) -> dict[str, Any]:
    """What a node's widgets hold when it is put on the canvas."""
    options = {name: spec[1] for name, spec in node.INPUT_TYPES()["required"].items()}
    return {name: told["default"] for name, told in options.items() if "default" in told}
