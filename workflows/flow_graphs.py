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
    COMPARED,
    DRAWN,
    NOTES,
    TOP,
    WIDE,
    Source,
    compare,
    learn,
    source_of,
    subtract,
)

FILES, TEXTS = -780, -400  # columns left of the stages: networks; what is beside them


def _loaders(g: Graph, family: Family) -> tuple[Source, Source, list[Node]]:
    """(what is trained, what is drawn with, their nodes); the two differ for a distillate."""
    if family.encoder is None:
        whole = g.add("CheckpointLoaderSimple", (TEXTS, TOP), size=(WIDE, 0), ckpt_name=family.file)
        source = source_of(g, *(whole.out(slot) for slot in range(3)))
        return source, source, [whole]
    kind, widgets = family.encoder
    columns: dict[int, list[Node]] = {FILES: [], TEXTS: []}

    def add(left: int, node: str, title: str = "", **values: Any) -> Output:
        placed = columns[left]
        top = placed[-1].at[1] + placed[-1].height + 90 if placed else TOP
        placed.append(g.add(node, (left, top), title, (WIDE, 0), **values))
        return placed[-1].out()

    def network(file: str, title: str) -> Output:
        model = add(FILES, "UNETLoader", title, unet_name=file, weight_dtype="default")
        if family.shift is None:
            return model
        return add(TEXTS, "ModelSamplingAuraFlow", model=model, shift=family.shift)

    trained = network(family.file, "Load the base, for training" if family.used else "")
    drawn = network(family.used[0], "Load the model for use") if family.used else trained
    clip = add(TEXTS, kind, **widgets, device="default")
    vae = add(TEXTS, "VAELoader", vae_name=family.vae)
    source = source_of(g, trained, clip, vae)
    if family.used:
        g.lead(drawn)
    return source, Source(drawn, clip, vae), [*columns[FILES], *columns[TEXTS]]


def erase(family: Family) -> Callable[[Graph], None]:
    """The graph's description."""

    def describe(g: Graph) -> None:
        recipe = family.recipe
        trained, used, loaders = _loaders(g, family)
        left = min(node.at[0] for node in loaders)
        g.note(left, NOTES, flow_notes.about(family, recipe), DRAWN - 60 - left)
        mask, title = None, "The model's files"
        if family.attention:
            at = (TEXTS, TOP + 520)
            blocks = g.add(
                "TVEraseBlockMask",
                at,
                size=(WIDE, 0),
                model=trained.model,
                preset="attention",
            )
            mask, title = blocks.out(), f"{title}, and what is trained of it"
            loaders.append(blocks)
            g.lead(mask)
        g.group(title, loaders, BLUE)
        stage_2 = flow_notes.stage_2(family)
        _, found = learn(g, trained, recipe, notes.STAGE_1, stage_2, mask=mask, top=TOP)
        other = {"other_weights": "allow"} if family.used else {}
        text = flow_notes.stage_3(family)
        erased = subtract(g, used, found, family.strength, text, **other)
        drawing = replace(recipe, draw=family.used[1]) if family.used else recipe
        shown = ("a photo of a cat", "a photo of a dog")
        asked = notes.COMPARE_TWO.format(other="dog")
        compare(g, COMPARED, 4, used, erased, drawing, shown, asked)

    return describe
