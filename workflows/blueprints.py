"""The subgraph blueprint: erasing as one node, for graphs of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devtools.blueprint import ENTRY, EXIT, blueprint, boundary
from devtools.workflow_graph import Graph
from workflows import notes
from workflows.graph_parts import TOP

NAME = "Erase concept"
DESCRIPTION = (
    "Takes a concept out of a model: draws pictures of it, learns them, subtracts what was "
    "learned. Defaults suit Stable Diffusion 1; for the demo model use the template erase_concept."
)
INPUTS = {"model": "MODEL", "clip": "CLIP"}
OUTPUTS = {"erased": "MODEL", "task_vector": "TASK_VECTOR", "concept_latents": "LATENT"}
STRENGTH = 1.75  # the paper's scripts


def erase_concept(
    classes: Mapping[str, Any], display_names: Mapping[str, str], packs: Mapping[str, str]
) -> dict[str, Any]:
    """The blueprint's file. Raises GraphError."""
    g = Graph({**classes, **boundary(INPUTS, OUTPUTS)}, display_names, packs)
    ends = g.add(ENTRY, (-220, TOP))
    model, clip = ends.out(0), ends.out(1)
    pictures = g.add(
        "TVEraseConceptSetFromPrompt",
        (0, TOP),
        size=(320, 0),
        model=model,
        clip=clip,
        concept="cat",
    )
    tuned = g.add(
        "TVEraseConceptFinetune",
        (380, TOP),
        size=(320, 880),
        model=model,
        concept_set=pictures.out(0),
    )
    vector = g.add("TVEraseExtractTaskVector", (760, TOP), base=model, tuned=tuned.out(0))
    erased = g.add(
        "TVEraseApplyNegatedTV",
        (760, TOP + 210),
        model=model,
        task_vector=vector.out(),
        strength=STRENGTH,
    )
    g.add(
        EXIT,
        (1180, TOP),
        erased=erased.out(),
        task_vector=vector.out(),
        concept_latents=pictures.out(1),
    )
    texts = (notes.STAGE_1, notes.STAGE_BLUEPRINT, notes.STAGE_3.format(stage=3))
    for place, text in enumerate(texts):
        g.note(380 * place, TOP - 60, text, 320)
    shown = ("prompt", "concept", "count", "width", "height", "steps", "learning_rate", "strength")
    owners = (*[pictures] * 5, *[tuned] * 2, erased)
    promoted = [(node.id, name) for node, name in zip(owners, shown, strict=True)]
    return blueprint(g, NAME, DESCRIPTION, promoted)
