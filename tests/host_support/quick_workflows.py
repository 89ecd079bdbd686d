"""The shipped workflows with widgets that turn minutes into seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workflows import build

FOLDER = Path(build.__file__).resolve().parent
NAMES = sorted(build.WORKFLOWS)
RUNNABLE = [name for name in NAMES if name not in build.NEEDS]  # with the pack alone
QUICK = {
    "TVEraseConceptSetFromPrompt": {"count": 4, "steps": 2, "batch_size": 4},
    "TVEraseConceptFinetune": {"steps": 2, "batch_size": 2, "accumulation": 1},
    "EmptyLatentImage": {"batch_size": 2},
    "EmptySD3LatentImage": {"batch_size": 2},
    "EmptyFlux2LatentImage": {"batch_size": 2},
    "KSampler": {"steps": 2},
    # from the word itself, so that the embeddings draw the concept without learning
    "TVEraseDiverseInversion": {
        "count": 2,
        "steps": 2,
        "learning_rate": 1e-5,
        "start": "cat",
        "checks": 4,
        "restarts": 0,
        "sampling_steps": 8,
    },
    "TVEraseAutoStrength": {
        "retained": "a clock | clock",
        "target": 0.6,
        "max_strength": 1.0,
        "step": 0.5,
        "pictures_per_trigger": 4,
        "pictures_per_retained": 4,
        "sampling_steps": 8,
    },
}


def api(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / "api" / f"{name}.json").read_text("utf-8")))


def smallest(prompt: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """`quick_changes` that draw 64 x 64 pixels as well, for tiny stand-ins of large models."""
    changes = {node_id: dict(values) for node_id, values in quick_changes(prompt).items()}
    for node_id, node in prompt.items():
        if "width" in node["inputs"]:
            changes.setdefault(node_id, {}).update({"width": 64, "height": 64})
    return changes


def quick_changes(prompt: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Widgets by node id that turn minutes into seconds."""
    return {
        node_id: QUICK[node["class_type"]]
        for node_id, node in prompt.items()
        if node["class_type"] in QUICK
    }


def quick(name: str) -> dict[str, Any]:
    prompt = api(name)
    for node_id, values in quick_changes(prompt).items():
        prompt[node_id]["inputs"].update(values)
    return prompt
