"""Finished fine-tunes on disk: a task vector's file, with the losses beside its story."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from ...tverase_core.files.task_vector_file import load_task_vector, save_task_vector
from ...tverase_core.storage.form import Form
from ...tverase_core.storage.reproducible import compact_json
from ...tverase_core.vector.task_vector import TaskVector

LOSSES = "tverase.losses"


@dataclass(frozen=True, slots=True)
class FinishedFinetune:
    """vector: as it was made. losses: one of each step."""

    vector: TaskVector
    losses: tuple[float, ...]


def _write(path: Path, made: FinishedFinetune) -> None:
    story = made.vector.provenance
    extra = {**story.extra, LOSSES: compact_json(list(made.losses))}
    save_task_vector(path, replace(made.vector, provenance=replace(story, extra=extra)))


def _read(path: Path) -> FinishedFinetune:
    vector = load_task_vector(path)
    extra = dict(vector.provenance.extra)
    losses = tuple(float(loss) for loss in json.loads(extra.pop(LOSSES)))
    story = replace(vector.provenance, extra=extra)
    return FinishedFinetune(replace(vector, provenance=story), losses)


FORM = Form(_write, _read)
