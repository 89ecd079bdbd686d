"""Finished fine-tunes on disk, found again by all that they depend on.

ComfyUI's cache drops results after another graph and when memory is short, and the next run of the
same graph would train again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ....tverase_core.concept_set import ConceptSet
from ....tverase_core.errors import TveraseError
from ....tverase_core.files.task_vector_file import load_task_vector, save_task_vector
from ....tverase_core.finetuning.config import FinetuneConfig
from ....tverase_core.finetuning.train import finetune_job
from ....tverase_core.storage.reproducible import compact_json
from ....tverase_core.vector.task_vector import TaskVector
from ..app.file_kinds import TASK_VECTORS
from ..app.paths import finished_folder
from ..app.version import host_version
from .unfinished import model_identity

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

MOST_BYTES = 8 << 30  # of all kept results; the ones that were not used for longest go first
REVISION = 1  # goes up when the same inputs give another result
LOSSES = "tverase.losses"
CHOICES = ("reuse", "make anew", "clear")


@dataclass(frozen=True, slots=True)
class FinishedFinetune:
    """vector: to the bit as it was made. losses: one of each step."""

    vector: TaskVector
    losses: tuple[float, ...]


class FinishedWork:
    """The place of one job's result; None for a job whose result is not kept."""

    def __init__(self, job: str | None) -> None:
        self._path = None if job is None else finished_folder(TASK_VECTORS) / f"{job}.safetensors"

    def forget(self) -> None:
        """Delete the kept result, if there is one."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def found(self) -> FinishedFinetune | None:
        """The kept result; None where there is none, or one that cannot be read."""
        if self._path is None or not self._path.exists():
            return None
        try:
            vector = load_task_vector(self._path)
            extra = dict(vector.provenance.extra)
            losses = tuple(float(loss) for loss in json.loads(extra.pop(LOSSES)))
        except (TveraseError, OSError, KeyError, TypeError, ValueError):
            return None
        self._path.touch()
        plain = replace(vector, provenance=replace(vector.provenance, extra=extra))
        return FinishedFinetune(plain, losses)

    def keep(self, vector: TaskVector, losses: Sequence[float]) -> str:
        """Write the result; why it was not kept, or "". A full disk is no reason to lose it."""
        if self._path is None or not len(vector):
            return ""
        extra = {**vector.provenance.extra, LOSSES: compact_json(list(losses))}
        told = replace(vector, provenance=replace(vector.provenance, extra=extra))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            save_task_vector(self._path, told)
            _drop_oldest(self._path)
        except OSError as problem:
            return f"The result could not be kept for the next run: {problem.strerror}."
        return ""


def finished_finetune(
    model: ModelPatcher,
    config: FinetuneConfig,
    pictures: ConceptSet,
    trained: Sequence[str],
    retained: ConceptSet | None,
    choice: str,
) -> FinishedWork:
    """Where the result of this fine-tune lies, or would.

    choice: "reuse", "make anew" (a result that is there is replaced), "clear" (all that is kept is
    deleted first), or "" for keeping nothing.
    """
    if choice == "clear":
        for path in _kept():
            path.unlink(missing_ok=True)
    if not choice:
        return FinishedWork(None)
    versions = (REVISION, torch.__version__, host_version(), model.load_device.type)
    job = finetune_job(config, pictures, trained, model_identity(model), retained)
    words = "|".join(map(str, (job, *versions)))
    work = FinishedWork(hashlib.sha256(words.encode()).hexdigest()[:32])
    if choice == "make anew":
        work.forget()
    return work


def _drop_oldest(newest: Path) -> None:
    """Delete the results that were not used for longest, until the rest fits; never the newest."""
    facts = {path: path.stat() for path in _kept()}
    total = sum(each.st_size for each in facts.values())
    for path in sorted(facts, key=lambda path: facts[path].st_mtime_ns):
        if total <= MOST_BYTES:
            return
        if path != newest:
            path.unlink(missing_ok=True)
            total -= facts[path].st_size


def _kept() -> list[Path]:
    return list(finished_folder(TASK_VECTORS).glob("*.safetensors"))
