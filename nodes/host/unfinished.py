"""Unfinished inversions on disk, so that a stopped run can go on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.inversion import InversionState
from ...tverase_core.inversion_config import InversionConfig
from ...tverase_core.inversion_files import (
    job_digest,
    load_inversion_state,
    save_inversion_state,
)
from ...tverase_core.ports import TextEncoder
from .paths import unfinished_path
from .weights import fingerprint

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class Unfinished:
    """`state`: where to go on, or None. `save`: called at checkpoints, or None.

    The file is named by model, settings, pictures and text encoder; it is deleted when the block
    ends well and stays when it does not.
    """

    def __init__(
        self,
        model: ModelPatcher,
        config: InversionConfig,
        pictures: ConceptSet,
        encoder: TextEncoder,
        wanted: bool,
    ) -> None:
        self.state: InversionState | None = None
        self.save: Callable[[InversionState], None] | None = None
        self._path = None
        if not wanted:
            return
        parts = (job_digest(config, pictures, encoder), _identity(model))
        job = hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
        path = self._path = unfinished_path(job)
        if path.exists():
            self.state = load_inversion_state(path, job)

        def save(state: InversionState) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_inversion_state(path, state, job)

        self.save = save

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


def _identity(model: ModelPatcher) -> str:
    """The base's content, and the patches on it by where they are and how strong."""
    patches = sorted((str(k), [p[0] for p in v]) for k, v in model.patches.items())
    return f"{fingerprint(model).content_sha256}{patches}"
