"""Unfinished work on disk, so that a stopped inversion or fine-tune can go on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ....tverase_core.concept_set import ConceptSet
from ....tverase_core.inversion.config import InversionConfig
from ....tverase_core.inversion.files import job_digest
from ....tverase_core.ports import TextEncoder
from ....tverase_core.storage.training_state import (
    TrainingState,
    load_training_state,
    save_training_state,
)
from ..app.file_kinds import INVERSION_SETS
from ..app.paths import unfinished_path
from .identity import Description

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class Unfinished:
    """`state`: where to go on, or None. `save`: called at checkpoints, or None.

    The file is named by the job it belongs to; it is deleted when the block ends well and stays
    when it does not.
    """

    def __init__(self, job: str = "", kind: str = "") -> None:
        """kind: of the folder that the file is kept in. No job: nothing is kept."""
        self.state: TrainingState | None = None
        self.save: Callable[[TrainingState], None] | None = None
        self._path: Path | None = None
        if not job:
            return
        path = self._path = unfinished_path(job, kind)
        if path.exists():
            self.state = load_training_state(path, job)

        def keep(state: TrainingState) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_training_state(path, state, job)

        self.save = keep

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._path is not None:
            self._path.unlink(missing_ok=True)


def unfinished_inversion(
    model: ModelPatcher,
    config: InversionConfig,
    pictures: ConceptSet,
    encoder: TextEncoder,
    wanted: bool,
) -> Unfinished:
    """The inversion of these settings, pictures and text encoder through this model."""
    if not wanted:
        return Unfinished()
    parts = (job_digest(config, pictures, encoder), Description(model).digest())
    job = hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
    return Unfinished(job, INVERSION_SETS)
