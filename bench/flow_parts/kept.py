"""Results of finished tasks, in files: a task is long, so none is done twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.erasure.concepts import ROOT
from bench.flow_parts.edits import EDITS
from bench.flow_parts.settings import Settings

KEPT = ROOT / "bench" / "results" / "flow"
WORK = ROOT / ".cache" / "flow"
SIDES = ("base", *EDITS)
CARRYING = ("drawn", "parts", "few_step")  # what is measured with the graph's own vector
TASKS = ("triggers", *EDITS, *(f"attack-{side}" for side in SIDES), *CARRYING)


def needs(task: str) -> tuple[str, ...]:
    """The tasks that come before it."""
    if task in EDITS:
        return ("triggers",)
    if task.startswith("attack-") and task != "attack-base":
        return (task.removeprefix("attack-"),)
    return ("tv",) if task in CARRYING else ()


def file_of(folder: Path, concept: str, seed: int, task: str) -> Path:
    return folder / f"{concept}-{seed}-{task}.json"


def finished(path: Path, digest: str) -> dict[str, Any] | None:
    """The task's result, if there is one with the present settings."""
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result if result["digest"] == digest else None


def results_of(concept: str, seed: int, settings: Settings, folder: Path) -> dict[str, Path]:
    """Files of the finished tasks of a concept and seed, by task."""
    digest = settings.digest(concept)
    paths = {task: file_of(folder, concept, seed, task) for task in TASKS}
    return {task: path for task, path in paths.items() if finished(path, digest)}
