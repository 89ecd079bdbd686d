"""Workflows for the flow-matching transformers that people run, one description a family.

Files, sampler, steps, CFG, shift and size are those of ComfyUI's own templates (package
comfyui-workflow-templates 0.11.44); what is learned and how is ours, tried on the demo model only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from devtools.workflow_graph import Graph, Node, Output
from workflows import flow_notes, notes
from workflows.checkpoint_graphs import PROMPTS
from workflows.graph_parts import (
    BLUE,
    NOTES,
    NOTES_HIGH,
    RED,
    TOP,
    Recipe,
    Source,
    about_note,
    compare,
    learn,
    subtracted,
)

FILES = -640  # where the loaders stand, left of the stages
KEPT = (
    "a photo of a dog",
    "a photo of a horse",
    "a bird on a branch",
    "a photo of a car",
    "a portrait of a woman",
    "a city street",
    "a bowl of fruit",
    "a lake in the mountains",
)
# The demo transformer's recipe, as a change of low rank; fewer pictures a step.
TUNE: dict[str, Any] = {
    "steps": 200,
    "learning_rate": 1e-4,
    "batch_size": 4,
    "accumulation": 4,
    "seed": 1,
    "flip": False,
    "ema": False,
    "rank": 16,
    "rate_schedule": "cosine",
    "retained_weight": 1.0,
    "retained_strength": 1.5,
    "least_noise": 0.3,
}


def sampler(steps: int, cfg: float, name: str, scheduler: str = "simple") -> dict[str, Any]:
    return {"steps": steps, "cfg": cfg, "sampler_name": name, "scheduler": scheduler}


@dataclass(frozen=True)
class Memory:
    """Of the pack's memory plan at rank 16, one picture at a time, blocks recomputed, computed in
    bfloat16; GiB. card: beyond the model's weights; main: main memory, for the whole difference."""

    weights: float
    card: float
    main: float


@dataclass(frozen=True)
class Family:
    """lead: what the graph does, below its title. encoder: a stock loader and its widgets; vae: a
    file; neither of a whole checkpoint. billions: weights of the network. shift: of
    ModelSamplingAuraFlow, where the template has it. used: a distillate's file and how it draws;
    none: the model itself. attention: train attention alone, or the difference would not fit into
    main memory. strength: where to begin."""

    title: str
    lead: str
    file: str
    billions: float
    memory: Memory
    draw: dict[str, Any]
    size: int = 1024
    encoder: tuple[str, dict[str, str]] | None = None
    vae: str = ""
    shift: float | None = None
    latent: str = "EmptySD3LatentImage"
    guidance: float | None = None  # none: the CFG
    strength: float = 1.0
    used: tuple[str, dict[str, Any]] | None = None
    attention: bool = False
    host: str = flow_notes.ANY_HOST
    extra: str = ""  # a last word about the drawing

    @property
    def recipe(self) -> Recipe:
        guidance = self.draw["cfg"] if self.guidance is None else self.guidance
        return Recipe(
            prompts=PROMPTS,
            retained=KEPT,
            captions=("{prompt}",),
            captioned=0.5,
            size=self.size,
            count=48,
            kept_each=2,
            at_once=1,
            shown=2,
            strength=self.strength,
            file_error=0.01,
            latent=self.latent,
            draw=self.draw,
            tune={**TUNE, "guidance": guidance},
        )

    def sockets(self) -> tuple[str, ...]:
        """The loaders' inputs that name a file."""
        if self.encoder is None:
            return ("ckpt_name",)
        texts = [name for name in self.encoder[1] if name.startswith("clip_name")]
        return ("unet_name", *texts, "vae_name")

    def passes(self) -> int:
        """Passes through the network until the vector is there. A picture that is learned: forward,
        again while recomputed, and back, which counts twice; two of the base for guidance. One that
        is kept: the same four and one of the base."""
        drawn = self.recipe.count + self.recipe.kept_each * len(KEPT)
        guided = 1 if self.draw["cfg"] == 1 else 2
        return drawn * self.draw["steps"] * guided + TUNE["steps"] * TUNE["batch_size"] * 11

    def hours(self) -> float:
        """The same at 1e14 operations a second: two a weight and token of 16 x 16 pixels."""
        each = 2 * self.billions * 1e9 * (self.size / 16) ** 2
        return self.passes() * each / 1e14 / 3600


def _loaders(g: Graph, family: Family) -> tuple[Source, Source, list[Node]]:
    """(what is trained, what is drawn with, their nodes); the two differ for a distillate."""
    if family.encoder is None:
        whole = g.add("CheckpointLoaderSimple", (FILES, TOP), size=(320, 0), ckpt_name=family.file)
        source = Source(*(whole.out(slot) for slot in range(3)))
        return source, source, [whole]
    kind, widgets = family.encoder
    placed: list[Node] = []

    def add(node: str, title: str = "", **values: Any) -> Output:
        top = placed[-1].at[1] + placed[-1].height + 60 if placed else TOP
        placed.append(g.add(node, (FILES, top), title, (320, 0), **values))
        return placed[-1].out()

    def network(file: str, title: str) -> Output:
        model = add("UNETLoader", title, unet_name=file, weight_dtype="default")
        if family.shift is None:
            return model
        return add("ModelSamplingAuraFlow", model=model, shift=family.shift)

    trained = network(family.file, "Load the base, for training" if family.used else "")
    drawn = network(family.used[0], "Load the model for use") if family.used else trained
    clip = add(kind, **widgets)
    vae = add("VAELoader", vae_name=family.vae)
    return Source(trained, clip, vae), Source(drawn, clip, vae), placed


def erase(family: Family) -> Callable[[Graph], None]:
    """The graph's description."""

    def describe(g: Graph) -> None:
        recipe = family.recipe
        trained, used, loaders = _loaders(g, family)
        about_note(g, flow_notes.about(family, recipe), FILES, 580)
        g.group("The model's files", loaders, BLUE)
        mask = None
        if family.attention:
            at = (720, TOP + 920)
            mask = g.add("TVEraseBlockMask", at, model=trained.model, preset="attention")
        stage_2 = flow_notes.stage_2(family)
        _, vector = learn(g, trained, recipe, notes.STAGE_1, stage_2, None, mask)
        other = {"other_weights": "allow"} if family.used else {}
        erased = subtracted(g, (1440, TOP), used, vector, family.strength, **other)
        text = flow_notes.stage_3(family)
        g.note((1440, NOTES), text, (300, NOTES_HIGH))
        g.group("3 Subtract", [erased], RED)
        drawing = replace(recipe, draw=family.used[1]) if family.used else recipe
        shown = ("a photo of a cat", "a photo of a dog")
        asked = notes.COMPARE_TWO.format(other="dog")
        compare(g, 1800, 4, used, erased.out(), drawing, shown, asked)

    return describe
