"""Names what a measurement by a graph's settings was made with."""

from __future__ import annotations

import hashlib
import json
from functools import cache

from .concepts import CONCEPTS, ROOT

GRAPHS = ROOT / "workflows" / "api"
MODEL = ROOT / "demo" / "model"


@cache
def recipe(concept: str, graph: str = "erase_concept_auto") -> str:
    """Names what a job measures: the graph's settings, the concept, the demo models.

    A result of another recipe does not count. Changes of the code do not change the name.
    """
    nodes = json.loads((GRAPHS / f"{graph}.json").read_text(encoding="utf-8")).values()
    settings = sorted(
        (
            [
                node["class_type"],
                {k: v for k, v in node["inputs"].items() if not isinstance(v, list)},
            ]
            for node in nodes
            if node["class_type"].startswith("TVErase")
        ),
        key=str,  # where a node stands in the file is no setting
    )
    told = json.dumps([settings, repr(CONCEPTS[concept])], sort_keys=True)
    digest = hashlib.sha256(told.encode())
    for file in sorted(MODEL.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
