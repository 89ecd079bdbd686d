"""What the demo says of each node: as it starts, and what came out of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from demo.steps import Graph

STARTS = {
    "TVEraseDemoModel": "opening the demo model",
    "TVEraseConceptSetFromPrompt": "drawing {count} pictures of {concept}",
    "TVEraseConceptFinetune": "learning it in {steps} steps",
    "TVEraseExtractTaskVector": "taking the task vector",
    "TVEraseUCE": "editing how {concepts} is read (UCE)",
    "TVEraseCombineTaskVectors": "adding {second_factor:g} of the vector to UCE's edit",
    "TVEraseSaveTaskVector": "saving the task vector",
    "TVEraseLoadTaskVector": "loading the task vector",
    "TVEraseDiverseInversion": "searching {count} triggers of it",
    "TVEraseAutoStrength": "measuring the strength",
}


def labels_of(graph: Graph) -> dict[str, str]:
    """What each node does, by its id; small ones have no label."""
    return {
        name: STARTS[made["class_type"]].format(**made["inputs"])
        for name, made in graph.items()
        if made["class_type"] in STARTS
    }


def found_by(made: Mapping[str, Any], output: Mapping[str, Any], said: Sequence[str]) -> str:
    """What came out of a node. output: for the browser; said: its lines while it worked."""
    kind, inputs = made["class_type"], made["inputs"]
    text = str(output.get("text", [""])[0]).partition("\n")[0]
    if kind == "TVEraseConceptFinetune":
        losses = [found[1] for line in said if (found := re.search(r"loss ([0-9.]+)", line))]
        return f"loss {losses[-1]}" if losses else ""
    if kind == "TVEraseUCE":
        return ""  # it names each weight that it reads
    if kind == "TVEraseDiverseInversion":
        works = re.match(r"\d+", text)
        return f"{inputs['count']} triggers, {works[0]} work" if works else text
    if kind == "TVEraseAutoStrength" and "strength" in output:
        return strength_words(output, inputs["target"])
    return text or (said[-1] if said else "")


def strength_words(output: Mapping[str, Any], target: float) -> str:
    """Such as "strength 1.2: 0 of 7 triggers left, 93 % kept".

    A trigger is left when it still shows the concept in a larger share of pictures than `target`.
    """
    triggers, retained = output["triggers"], output["retained"]
    left = sum(hits > target * draws for hits, draws in triggers)
    words = f"strength {output['strength'][0]:g}: {left} of {len(triggers)} triggers left"
    before = sum(hits for _, hits in retained)
    kept = sum(now for now, _ in retained)
    return f"{words}, {100 * kept / before:.0f} % kept" if before else words
