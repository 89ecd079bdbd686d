"""The workflow cut into steps, each of which leaves a file that the next one loads.

So a demo that was stopped goes on from the last file, and nothing depends on what the server still
has in memory.
"""

from __future__ import annotations

import re
from typing import Any

from devtools.api_graph import node_of

Graph = dict[str, dict[str, Any]]
VECTOR, SET = "load vector", "load set"  # ids of the loaders in the later steps
CHECKPOINT_EVERY = 50  # steps of the fine-tune that a stop costs at most


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def for_concept(graph: Graph, concept: str, written: str = "cat") -> Graph:
    """The workflow for another concept: the two words change places in every text.

    So a thing that was to stay and now is to go leaves its place in the retained set to the other.
    """
    places = {concept: written, written: concept}
    word = re.compile(rf"\b({concept}|{written})\b")

    def changed(value: Any) -> Any:
        return word.sub(lambda m: places[m[0]], value) if isinstance(value, str) else value

    return {
        name: {**made, "inputs": {key: changed(value) for key, value in made["inputs"].items()}}
        for name, made in graph.items()
    }


def input_of(graph: Graph, kind: str, name: str) -> Any:
    """An input of the first node of that type: a wire [node, slot] or a value."""
    return graph[node_of(graph, kind)]["inputs"][name]


def needed_for(graph: Graph, *wanted: str) -> Graph:
    """Only the nodes that the wanted ones need."""
    kept: Graph = {}
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = graph[name]
            inputs = graph[name]["inputs"].values()
            waiting += [value[0] for value in inputs if isinstance(value, list)]
    return {name: made for name, made in graph.items() if name in kept}


def rewired(graph: Graph, wire: Any, other: Any) -> Graph:
    """The graph with another wire, or a value, wherever that wire went in."""
    return {
        name: {
            **made,
            "inputs": {k: other if v == wire else v for k, v in made["inputs"].items()},
        }
        for name, made in graph.items()
    }


def with_input(graph: Graph, kind: str, **inputs: Any) -> Graph:
    """The graph with other inputs of the first node of that type."""
    name = node_of(graph, kind)
    made = graph[name]
    return {**graph, name: {**made, "inputs": {**made["inputs"], **inputs}}}


def learning(graph: Graph) -> Graph:
    """Step 1: learn the concept and save its vector; a stopped fine-tune goes on."""
    made = needed_for(graph, node_of(graph, "TVEraseSaveTaskVector"))
    return with_input(made, "TVEraseConceptFinetune", checkpoint_every=CHECKPOINT_EVERY)


def with_vector(graph: Graph, file: str) -> Graph:
    """The later steps take the vector from its file."""
    wire = input_of(graph, "TVEraseSaveTaskVector", "task_vector")
    return {**rewired(graph, wire, [VECTOR, 0]), VECTOR: node("TVEraseLoadTaskVector", file=file)}


def measures(graph: Graph) -> bool:
    """Is the strength measured, or did a person choose it?"""
    return isinstance(input_of(graph, "TVEraseApplyNegatedTV", "strength"), list)


def searching(graph: Graph, concept: str) -> Graph:
    """Step 2: search triggers and save them; a stopped search goes on."""
    wire = input_of(graph, "TVEraseAutoStrength", "inversion_set")
    made = with_input(needed_for(graph, wire[0]), "TVEraseDiverseInversion", resumable=True)
    saving = node("TVEraseSaveInversionSet", inversion_set=wire, filename_prefix=concept)
    return {**made, "save set": saving}


def with_set(graph: Graph, file: str) -> Graph:
    """The later steps take the triggers from their file."""
    wire = input_of(graph, "TVEraseAutoStrength", "inversion_set")
    return {**rewired(graph, wire, [SET, 0]), SET: node("TVEraseLoadInversionSet", file=file)}


def measuring(graph: Graph) -> Graph:
    """Step 3: measure the strength."""
    auto = node_of(graph, "TVEraseAutoStrength")
    shown = node("PreviewAny", source=[auto, 0])  # a graph needs a node that ends it
    return {**needed_for(graph, auto), "show strength": shown}


def with_strength(graph: Graph, strength: float) -> Graph:
    """The later steps take the strength as a number."""
    return rewired(graph, input_of(graph, "TVEraseApplyNegatedTV", "strength"), strength)


def drawing(graph: Graph, prompt: str, count: int, sampling: dict[str, Any], seed: int) -> Graph:
    """Step 4: `count` pictures of the prompt by the base ("s_base") and the erased ("s_erased")."""
    demo, erased = node_of(graph, "TVEraseDemoModel"), node_of(graph, "TVEraseApplyNegatedTV")
    made = needed_for(graph, demo, erased)
    made["p"] = node("CLIPTextEncode", clip=[demo, 1], text=prompt)
    made["n"] = node("CLIPTextEncode", clip=[demo, 1], text="")
    made["e"] = node("EmptyLatentImage", width=64, height=64, batch_size=count)
    conditions = {"positive": ["p", 0], "negative": ["n", 0], "latent_image": ["e", 0]}
    for tag, model in (("base", demo), ("erased", erased)):
        made[f"k_{tag}"] = node(
            "KSampler", model=[model, 0], seed=seed, denoise=1.0, **conditions, **sampling
        )
        made[f"d_{tag}"] = node("VAEDecode", samples=[f"k_{tag}", 0], vae=[demo, 2])
        made[f"s_{tag}"] = node("SaveImage", images=[f"d_{tag}", 0], filename_prefix=f"demo/{tag}")
    return made
