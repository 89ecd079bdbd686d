"""tuned - base from two files into a third, a piece at a time: no model is ever in memory.

The result has the very bytes that `save_task_vector` writes for `TaskVector.difference` of the
same weights. Its header holds which deltas are not zero, and precedes them; so a first reading
finds out which these are. It stops at the first difference of each weight, and weights without
one are not read again: together that is hardly more than one reading.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal

import torch
from torch import Tensor

from ..errors import BaseMismatchError, FormatError, KeyMismatchError, listed
from ..model.fingerprint import BaseFingerprint, sampled_runs
from ..ports import Progress, quiet
from ..storage.content_hash import UNKNOWN, ContentHash, RunningHash, pieces
from ..storage.new_file import check_not_source, check_room, replacing
from ..storage.reproducible import complete_metadata, header_bytes
from ..tensors import tensor_bytes
from ..vector.delta_names import file_name_of, file_names_of
from ..vector.provenance import Provenance
from ..vector.pruned import PRUNED, only_prunes
from ..vector.rounding import RoundingShare
from ..vector.task_vector import check_finite, check_shape
from .checkpoint import CheckpointFile
from .checkpoint_fingerprint import file_fingerprint
from .metadata import DTYPES, task_vector_metadata

_HASHES = ("modelspec.hash_sha256", "sshs_model_hash")
FIRST_LOOK = 1 << 14  # elements read first when looking for a difference


@dataclass(frozen=True, slots=True)
class Extraction:
    """What was extracted. base, tuned: what the files were recognised as. kept: weights that
    differ; unchanged: those that do not, absent: those of them that the tuned file lacks; content:
    hash of the result's data, see `task_vector_file`; notes: sentences of what was left out."""

    base: str
    tuned: str
    kept: int
    unchanged: int
    file_bytes: int
    content: str
    absent: int = 0
    notes: tuple[str, ...] = ()

    def sentence(self) -> str:
        absent = f", of which the tuned file lacks {self.absent}" * bool(self.absent)
        counts = f"{self.kept} weights differ, {self.unchanged} are equal{absent}; "
        return " ".join((counts + f"{self.file_bytes / 1e6:,.1f} MB written.", *self.notes))


def extract_between_files(
    base: str | os.PathLike[str],
    tuned: str | os.PathLike[str],
    out: str | os.PathLike[str],
    provenance: Provenance | None = None,
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    absent: Literal["refuse", "unchanged"] = "refuse",
    progress: Progress = quiet,
) -> Extraction:
    """Write the task-vector file `out` from two models on disk (see CheckpointFile).

    Computed in float32. dtype: of the file, see `save_task_vector`. absent: whether weights that
    the tuned file lacks count as unchanged, as in the files of UCE and ESD, which hold what they
    edited alone. Memory: a few pieces of two million elements. The file appears whole or not at
    all, also when `progress` raises.
    Raises ConfigError, FormatError, KeyMismatchError, ShapeMismatchError, NonFiniteError,
    BaseMismatchError (equal models, swapped arguments), OSError (no room).
    """
    if dtype not in DTYPES:
        raise FormatError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    target = Path(out)
    check_not_source(target, (base, tuned))
    if absent not in ("refuse", "unchanged"):
        raise FormatError(f"absent: expected refuse or unchanged, got {absent!r}")
    with CheckpointFile(base) as old, CheckpointFile(tuned, old) as new:
        refuse_swapped(old, new)
        check_same_family(old, new, absent)
        job = _Job(old, new, DTYPES[dtype], progress)
        changed = job.changed()
        if not changed:
            raise BaseMismatchError(_nothing_changed(old, new))
        return job.write(target, changed, provenance or Provenance())


def _nothing_changed(base: CheckpointFile, tuned: CheckpointFile) -> str:
    texts = changed_text_weights(base, tuned)
    if texts:
        return (
            f"{tuned.name} differs from {base.name} in its text encoder alone ({texts} tensors), "
            "and a task vector from files is of the diffusion model. Give a model whose diffusion "
            "model was trained too."
        )
    return (
        f"the diffusion model of {tuned.name} has exactly the weights of {base.name}, so there is "
        "no task vector. Give the untouched model first and the fine-tuned one second."
    )


def changed_text_weights(base: CheckpointFile, tuned: CheckpointFile) -> int:
    """How many tensors of the text encoder differ, by `sampled_runs` of those that both hold."""
    count = 0
    for name, new in tuned.text_weights.items():
        old = base.text_weights.get(name)
        if old is not None and old.shape == new.shape:
            coarser = min(old.dtype, new.dtype, key=lambda dtype: dtype.itemsize)
            runs = sampled_runs(old.numel)
            pairs = ((base.read_stored(old, *run), tuned.read_stored(new, *run)) for run in runs)
            count += any(not torch.equal(a.to(coarser), b.to(coarser)) for a, b in pairs)
    return count


def check_same_family(
    base: CheckpointFile, tuned: CheckpointFile, absent: Literal["refuse", "unchanged"] = "refuse"
) -> None:
    """Raises KeyMismatchError, ShapeMismatchError, FormatError (number against code)."""
    missing = sorted(base.weights.keys() - tuned.weights.keys())
    unexpected = sorted(tuned.weights.keys() - base.weights.keys())
    if missing and not unexpected:
        if absent == "refuse":
            raise KeyMismatchError(
                f"{tuned.described()}: lacks {len(missing)} weights of {base.described()}, such as "
                f"{listed(missing)}. If it holds what was edited alone, as the files of UCE and "
                "ESD do, let absent weights count as unchanged (absent_weights, on the command "
                "line --absent).",
                missing,
            )
    elif missing or unexpected:
        raise KeyMismatchError(
            f"{base.described()} and {tuned.described()} are different models. "
            f"Only in {base.name} ({len(missing)}): {listed(missing) or 'none'}. "
            f"Only in {tuned.name} ({len(unexpected)}): {listed(unexpected) or 'none'}. "
            "Give two models of one family.",
            missing,
            unexpected,
        )
    for key, new in tuned.weights.items():
        old = base.weights[key]
        check_shape(key, old.shape, torch.Size(new.shape), base.name, tuned.name)
        if old.dtype.is_floating_point != new.dtype.is_floating_point:
            raise FormatError(
                f"{key}: is {old.dtype} in {base.name} and {new.dtype} in {tuned.name}. "
                "Both must hold floating-point numbers."
            )


def refuse_swapped(base: CheckpointFile, tuned: CheckpointFile) -> None:
    """Raises BaseMismatchError when the base's metadata say that it was made from tuned: by its
    whole name, unless both have it, or by its hash."""
    names = {tuned.path.name, tuned.path.stem} - {base.path.name, base.path.stem}
    hashes = {tuned.metadata.get(key, "").removeprefix("0x") for key in _HASHES} - {""}
    hashes -= {base.metadata.get(key, "").removeprefix("0x") for key in _HASHES}
    for key, text in base.metadata.items():
        words = set(re.findall(r"[0-9A-Fa-f]{16,}", text)) if key not in _HASHES else set()
        if names & set(_parents(key, text)) or hashes & words:
            raise BaseMismatchError(
                f"{base.name} says in its metadata ({key}) that it was made from {tuned.name}: "
                "the two are swapped. Give the untouched model first, the fine-tuned one second."
            )


def _parents(key: str, text: str) -> list[str]:
    """The whole names of models that a metadata value states."""
    if key == "ss_sd_model_name":
        return [re.split(r"[/\\]", text)[-1]]
    if key == "modelspec.merged_from":
        return [name.strip(" \"'") for name in text.split(",")]
    if key == "tverase.base":
        return re.findall(r'"file_name":"([^"]+)"', text)
    return []


def _difference(old: Tensor, new: Tensor) -> Tensor:
    """float32; NaN or infinite where a weight is."""
    return new.to(torch.float32) - old.to(torch.float32)


class _Job:
    """Two open models of one family and the dtype of the file."""

    def __init__(
        self, old: CheckpointFile, new: CheckpointFile, dtype: torch.dtype, progress: Progress
    ):
        self.old, self.new, self.dtype, self.progress = old, new, dtype, progress
        self.keys = sorted(key for key in old.sizes() if key in new.weights)
        self.unlike = any(old.weights[key].dtype != new.weights[key].dtype for key in self.keys)
        self.rounding = RoundingShare()

    def stored(self, key: str, first: int, count: int) -> tuple[Tensor, Tensor]:
        """[count] of the base and of the tuned model."""
        return self.old.read(key, first, count), self.new.read(key, first, count)

    def changed(self) -> list[str]:
        """The weights that differ somewhere, in the file's order."""
        found = []
        for done, key in enumerate(self.keys):
            self.progress(done, 2 * len(self.keys), f"comparing {key}")
            numel = self.old.weights[key].numel
            parts = chain([(0, min(numel, FIRST_LOOK))], pieces(numel))
            if any(bool(_difference(*self.stored(key, *part)).any()) for part in parts):
                found.append(key)
        return sorted(found, key=file_name_of)

    def write(self, target: Path, keys: list[str], provenance: Provenance) -> Extraction:
        names = file_names_of(keys)
        kinds = {names[key]: (self.dtype, self.old.weights[key].shape) for key in keys}
        prediction = provenance.prediction or self.old.prediction
        content = PRUNED if self.only_prunes(keys) else provenance.content
        provenance = replace(provenance, prediction=prediction, content=content)
        base = file_fingerprint(self.old, prediction or "epsilon")
        room = len(header(kinds, keys, base, provenance, UNKNOWN))
        size = room + sum(torch.Size(s).numel() * d.itemsize for d, s in kinds.values())
        check_room(target, size)
        with replacing(target) as file:
            file.seek(room)
            digests = self.write_data(file, keys)
            file.seek(0)
            file.write(header(kinds, keys, base, provenance, digests))
            self.old.check_unchanged()
            self.new.check_unchanged()
        described = self.old.described(), self.new.described()
        absent = len(self.old.sizes()) - len(self.keys)
        equal = len(self.old.sizes()) - len(keys)
        notes = self.notes()
        return Extraction(*described, len(keys), equal, size, digests.whole, absent, notes)

    def only_prunes(self, keys: list[str]) -> bool:
        """Whether the tuned file is the base with weights set to 0; read as far as it may be."""
        parts = ((key, *part) for key in keys for part in pieces(self.old.weights[key].numel))
        both = (self.stored(*part) for part in parts)
        return all(only_prunes(_difference(old, new), new) for old, new in both)

    def notes(self) -> tuple[str, ...]:
        texts, rounding = changed_text_weights(self.old, self.new), self.rounding.sentence()
        words = f"Its text encoder was trained too: {texts} tensors differ and are left out."
        return (*[words] * bool(texts), *[rounding] * bool(rounding))

    def write_data(self, file: BinaryIO, keys: list[str]) -> ContentHash:
        """The deltas, hashed and written while the next piece is computed; returns the hashes."""
        with RunningHash() as running, ThreadPoolExecutor(1) as writing:

            def put(piece: Tensor) -> None:
                running.add(piece)
                file.write(tensor_bytes(piece))

            last: Future[None] | None = None
            for piece in self.checked_pieces(keys):
                if last is not None:
                    last.result()
                last = writing.submit(put, piece)
            if last is not None:
                last.result()
            return running.content()

    def checked_pieces(self, keys: list[str]) -> Iterator[Tensor]:
        for done, key in enumerate(keys):
            self.progress(len(self.keys) + done, len(self.keys) + len(keys), f"subtracting {key}")
            for first, count in pieces(self.old.weights[key].numel):
                old, new = self.stored(key, first, count)
                delta = _difference(old, new)
                piece = delta.to(self.dtype)
                check_finite(piece, f"{key}: the difference of {self.new.name} and {self.old.name}")
                if self.unlike:
                    self.rounding.add(old, new, delta)
                yield piece
        self.progress(1, 1, "written")


def header(
    kinds: dict[str, tuple[torch.dtype, tuple[int, ...]]],
    keys: list[str],
    base: BaseFingerprint,
    provenance: Provenance,
    content: ContentHash,
) -> bytes:
    """The file's header; its length does not depend on the hashes."""
    metadata = task_vector_metadata(base, provenance, sorted(keys), provenance.recommended)
    return header_bytes(kinds, complete_metadata(metadata, content))
