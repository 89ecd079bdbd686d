"""Results of finished jobs, in the repository: a job is long, so none is done twice."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from .concepts import CONCEPTS, ROOT

KEPT = ROOT / "bench" / "results" / "claims"
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


def job_file(concept: str, seed: int) -> Path:
    """Where a job's result belongs."""
    return KEPT / f"{concept}-{seed}.json"


def finished(concept: str, seed: int) -> dict[str, Any] | None:
    """The job's result, if there is one of the present recipe."""
    file = job_file(concept, seed)
    if not file.exists():
        return None
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return result if result.get("recipe") == recipe(concept) else None
