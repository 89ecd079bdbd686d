"""Reading the diffusion model out of a checkpoint on disk, a piece at a time.

Takes ComfyUI and CompVis checkpoints, files of the diffusion model alone, and diffusers' UNets:
a file, or a folder, whole or in shards with an index.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path

import torch
from torch import Tensor

from ..errors import FormatError
from ..model.fingerprint import (
    architecture_of,
    key_digest,
    storage_of,
)
from ..storage.header import (
    DTYPES,
    FileHeader,
    TensorEntry,
    parse_header,
    torch_dtype,
)
from ..tensors import tensor_bytes
from .checkpoint_kinds import TEXT, recognise
from .checkpoint_places import files_of
from .checkpoint_prediction import prediction_of


@dataclass(frozen=True, slots=True)
class StoredWeight:
    """Where a weight lies. start: offset of its first byte in the file, not in the data."""

    file: int
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def numel(self) -> int:
        return torch.Size(self.shape).numel()


class CheckpointFile:
    """An open model on disk: the weights of its diffusion model, by ComfyUI's key.

    name: of the file or folder, without the path. kind: what it was recognised as.
    text_weights: the text encoder's, by their names in the file. prediction: "epsilon", "v",
    "flow", or "" where the file does not tell. metadata: of its first file. base: an open model
    whose keys say what is what in a file of edited weights alone. Use it in a `with` block. One
    thread at a time may read. Raises FormatError (not a model, damaged, pickled), OSError.
    """

    def __init__(self, path: str | os.PathLike[str], base: CheckpointFile | None = None):
        self.path = Path(path)
        # A name of bytes that are no text can be opened, and not be written into a header.
        self.name = self.path.name.encode(errors="replace").decode()
        paths, listed_in_index = files_of(self.path)
        with ExitStack() as opening:
            self._files: list[BufferedReader] = [opening.enter_context(p.open("rb")) for p in paths]
            self._names = [p.name for p in paths]
            self._facts = [_facts(file) for file in self._files]
            headers = [
                parse_header(file, name)
                for file, name in zip(self._files, self._names, strict=True)
            ]
            places = _places(headers, self._names, listed_in_index)
            # Tensors without elements are marks for a loader, such as `v_pred` and `ztsnr`.
            marks = {name for name, (_, entry) in places.items() if _is_mark(name, entry)}
            names = [name for name in places if name not in marks]
            known = recognise(names, self.name, base.weights if base else None)
            self.kind, self._left_out = known.kind, known.left_out_words()
            self.metadata: Mapping[str, str] = headers[0].metadata
            stored = partial(_stored, places=places, headers=headers, files=self._names)
            self.weights: Mapping[str, StoredWeight] = {
                key: stored(name) for name, key in known.keys.items()
            }
            self.text_weights: Mapping[str, StoredWeight] = {
                name: stored(name)
                for name, part in known.left_out.items()
                if part == TEXT and places[name][1].dtype in DTYPES
            }
            self.prediction = prediction_of(self.metadata, marks, self.sizes(), self.read)
            self._refuse_codes()
            self._closing = opening.pop_all()

    def __enter__(self) -> CheckpointFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every floating-point weight by key."""
        return {k: w.shape for k, w in self.weights.items() if w.dtype.is_floating_point}

    def dtype(self) -> str:
        """What its weights are stored as: "float16", see `storage_of`."""
        return storage_of((weight.dtype, weight.numel) for weight in self.weights.values())

    def described(self) -> str:
        """One line for people: what was recognised."""
        sizes = self.sizes()
        parts = f"{len(self.weights)} weights, {self.dtype() or 'no floating-point numbers'}"
        left = f"; tensors left out: {self._left_out}" * bool(self._left_out)
        shards = f" in {len(self._files)} files" * (len(self._files) > 1)
        return f"{self.name}: {self.kind}{shards}, {architecture_of(sizes)}, {parts}{left}"

    def key_digest(self) -> str:
        """As `fingerprint.key_digest`, of the floating-point weights."""
        return key_digest(self.sizes())

    def _refuse_codes(self) -> None:
        for weight in self.weights.values():
            if weight.name.endswith(".weight") and not weight.dtype.is_floating_point:
                raise FormatError(
                    f"{self._names[weight.file]}: {weight.name!r} is stored as {weight.dtype}: the "
                    "model is quantised. Use its checkpoint in fp16, bf16, fp32 or plain fp8."
                )

    def read(self, key: str, first: int = 0, count: int | None = None) -> Tensor:
        """Elements first .. first + count of a weight, in its stored dtype: CPU [count].

        Raises FormatError naming file and weight when the file ends too early.
        """
        return self.read_stored(self.weights[key], first, count)

    def read_stored(self, weight: StoredWeight, first: int = 0, count: int | None = None) -> Tensor:
        """As `read`, of any tensor of this model."""
        count = weight.numel - first if count is None else count
        piece = torch.empty(count, dtype=weight.dtype)
        file, view = self._files[weight.file], tensor_bytes(piece)
        file.seek(weight.start + first * weight.dtype.itemsize)
        if view.nbytes and file.readinto(view) != view.nbytes:
            raise FormatError(
                f"{self._names[weight.file]}: ends within {weight.name!r}: the file was cut while "
                "it was read. Copy it again."
            )
        return piece

    def check_unchanged(self) -> None:
        """Raises FormatError when a file was written to since it was opened."""
        for file, name, facts in zip(self._files, self._names, self._facts, strict=True):
            if _facts(file) != facts:
                raise FormatError(
                    f"{name}: changed while it was read, so the result would be a mixture. "
                    "Wait until it is complete, then try again."
                )


def _places(
    headers: Sequence[FileHeader], files: Sequence[str], index: Mapping[str, str] | None
) -> dict[str, tuple[int, TensorEntry]]:
    """File number and entry by tensor name; the shards must hold what their index says."""
    places: dict[str, tuple[int, TensorEntry]] = {}
    for number, header in enumerate(headers):
        for name, entry in header.tensors.items():
            if name in places:
                raise FormatError(
                    f"{files[number]}: holds {name!r}, which {files[places[name][0]]} holds too"
                )
            places[name] = (number, entry)
    for name, file in (index or {}).items():
        if name not in places or files[places[name][0]] != file:
            raise FormatError(f"{file}: lacks the tensor {name!r} that the index places there")
    return places


def _is_mark(name: str, entry: TensorEntry) -> bool:
    return not entry.numel and not name.endswith((".weight", ".bias"))


def _stored(
    name: str,
    places: Mapping[str, tuple[int, TensorEntry]],
    headers: Sequence[FileHeader],
    files: Sequence[str],
) -> StoredWeight:
    number, entry = places[name]
    start = headers[number].data_start + entry.start
    return StoredWeight(number, name, torch_dtype(entry, name, files[number]), entry.shape, start)


def _facts(file: BufferedReader) -> tuple[int, int]:
    facts = os.fstat(file.fileno())
    return facts.st_size, facts.st_mtime_ns
