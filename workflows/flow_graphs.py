"""Workflows for the flow-matching transformers that people run, one description a family.

Files, sampler, steps, CFG, shift and size are those of ComfyUI's own templates (package
comfyui-workflow-templates 0.11.44); what is learned and how is ours, tried on the demo model only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from devtools.workflow_graph import Graph, Node, Output
from workflows import flow_notes, notes
from workflows.flow_family import Family
from workflows.graph_parts import (
    BLUE,
    NOTES,
    NOTES_HIGH,
    RED,
    TOP,
    Source,
    about_note,
    compare,
    learn,
    subtracted,
)

FILES = -640  # where the loaders stand, left of the stages


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
    clip = add(kind, **widgets, device="default")
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
