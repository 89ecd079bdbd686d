"""Unfinished work on disk, so that a stopped inversion or fine-tune can go on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch

from ....tverase_core.concept_set import ConceptSet
from ....tverase_core.finetuning.config import FinetuneConfig
from ....tverase_core.finetuning.train import finetune_job
from ....tverase_core.inversion.config import InversionConfig
from ....tverase_core.inversion.files import job_digest
from ....tverase_core.model.fingerprint import sample_sha256
from ....tverase_core.ports import TextEncoder
from ....tverase_core.storage.training_state import (
    TrainingState,
    load_training_state,
    save_training_state,
)
from ..app.file_kinds import INVERSION_SETS, TASK_VECTORS
from ..app.paths import unfinished_path
from ..model.exact import exact_edits
from ..model.weights import fingerprint

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
    parts = (job_digest(config, pictures, encoder), model_identity(model))
    job = hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
    return Unfinished(job, INVERSION_SETS)


def unfinished_finetune(
    model: ModelPatcher,
    config: FinetuneConfig,
    pictures: ConceptSet,
    retained: ConceptSet | None,
    trained: Iterable[str],
    wanted: bool,
) -> Unfinished:
    """The fine-tune of these weights of this model on these pictures."""
    if not wanted:
        return Unfinished()
    job = finetune_job(config, pictures, trained, model_identity(model), retained)
    return Unfinished(job, TASK_VECTORS)


def model_identity(model: ModelPatcher) -> str:
    """The base's content, and that of every edit on it, be it patches or runtime-exact.

    Without edits it is what earlier versions said, so that their unfinished files are found.
    """
    patches = sorted((str(k), [p[0] for p in v]) for k, v in model.patches.items())
    identity = f"{fingerprint(model).sample_sha256}{patches}"
    edits = exact_edits(model)
    if not patches and not edits:
        return identity
    words: list[str] = []
    tensors: dict[str, torch.Tensor] = {}
    by_key = sorted((str(key), entries) for key, entries in model.patches.items())
    _describe([by_key, edits], words, tensors, frozenset())
    of_words = hashlib.sha256("\n".join(words).encode()).hexdigest()
    return f"{identity}{of_words}{sample_sha256(tensors)}"


def _describe(
    value: Any, words: list[str], tensors: dict[str, torch.Tensor], around: frozenset[int]
) -> None:
    """Add what a patch is made of: its tensors, and words for them and for all that holds them.

    A patch is a tuple of tensors, numbers, functions and, for LoRAs, objects of the host. The
    words are the same in another process: functions are told by their names, not their addresses.
    around: the identities of what holds the value, since objects may hold each other.
    """
    if isinstance(value, torch.Tensor):
        words.append(f"{value.dtype} {tuple(value.shape)}")
        tensors[f"{len(tensors):09}"] = value  # sampled in the order of names
    elif value is None or isinstance(value, str | int | float | torch.dtype | torch.device):
        words.append(repr(value))
    elif hasattr(value, "__qualname__"):
        words.append(value.__qualname__)
    elif id(value) not in around:
        words.append(type(value).__qualname__)
        for part in _parts(value):
            _describe(part, words, tensors, around | {id(value)})
        words.append("end")


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return value if isinstance(value, list | tuple) else _parts(getattr(value, "__dict__", {}))
