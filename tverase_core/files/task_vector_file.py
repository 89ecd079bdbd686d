"""Task-vector files, `<concept>.tv.safetensors`; docs/file-format.md is the specification."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal

from torch import Tensor

from ..errors import FormatError
from ..model.fingerprint import BaseFingerprint
from ..storage.header import FileHeader
from ..storage.reproducible import check_kind, read_header, read_safetensors, write_safetensors
from ..vector.delta_names import file_names_of, weight_key_of
from ..vector.provenance import Provenance, Recommendation
from ..vector.task_vector import TaskVector
from .compact import multiplied_out
from .metadata import (
    COMPACT,
    DTYPES,
    KIND,
    base_of,
    check_direction,
    provenance_of,
    task_vector_metadata,
    words_of,
)


def save_task_vector(
    path: str | os.PathLike[str],
    task_vector: TaskVector,
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    recommended: Recommendation | None = None,
) -> str:
    """Write the file atomically; equal arguments give equal bytes. Returns the content hash.

    dtype: bfloat16 halves the file at 0.4 % error of each value; float16 is refused, since
    small deltas fall below its range. recommended: instead of the one in the provenance.
    Raises FormatError (dtype, an empty vector, names that a file cannot hold), OSError.
    """
    if dtype not in DTYPES:
        raise FormatError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    if not task_vector.deltas:
        raise FormatError("the task vector is empty: a file of it would erase nothing")
    names = file_names_of(task_vector.deltas)
    tensors = {names[key]: delta.to(DTYPES[dtype]) for key, delta in task_vector.deltas.items()}
    chosen = recommended or task_vector.provenance.recommended
    provenance = task_vector.provenance
    # What a compact file lost is not what this one, without factors, loses.
    extra = {key: text for key, text in provenance.extra.items() if key != COMPACT}
    provenance = dataclasses.replace(provenance, extra=extra)
    metadata = task_vector_metadata(task_vector.base, provenance, list(task_vector.deltas), chosen)
    return write_safetensors(path, tensors, metadata)


def load_task_vector(path: str | os.PathLike[str], *, mapped: bool = False) -> TaskVector:
    """Read and check a file, full or compact; deltas read as float32. mapped: `read_safetensors`.

    Raises FormatError (also for a file that changes nothing), FormatVersionError, NonFiniteError,
    OSError.
    """
    tensors, metadata = read_safetensors(path, KIND, mapped=mapped)
    name = Path(path).name
    check_direction(metadata, name)
    bare = frozenset(words_of(metadata, "tverase.bare_keys", [], name))
    deltas: dict[str, Tensor] = {}
    for file_key, tensor in multiplied_out(tensors, name).items():
        key = weight_key_of(file_key, bare)
        if key is None or not tensor.is_floating_point():
            raise FormatError(
                f"{name}: tensor {file_key!r} ({tensor.dtype}) is no delta; "
                "expected names ending in .diff or .diff_b"
            )
        deltas[key] = tensor
    vector = TaskVector(deltas, base_of(metadata, name), provenance_of(metadata, name))
    if not vector.deltas:
        raise FormatError(
            f"{name}: expected a delta that is not zero, got none among its {len(deltas)}, so it "
            "would erase nothing. Extract or train the task vector again."
        )
    return vector


def read_task_vector_header(path: str | os.PathLike[str]) -> FileHeader:
    """Metadata and tensor table of a task-vector file, without the data.

    Raises FormatError for any other file, FormatVersionError, OSError.
    """
    header = read_header(path)
    check_kind(header.metadata, KIND, Path(path).name)
    check_direction(header.metadata, Path(path).name)
    return header


def read_provenance(path: str | os.PathLike[str]) -> tuple[BaseFingerprint, Provenance]:
    """Base and provenance of a task-vector file, without the data.

    Raises as `read_task_vector_header` does.
    """
    metadata, name = read_task_vector_header(path).metadata, Path(path).name
    return base_of(metadata, name), provenance_of(metadata, name)
