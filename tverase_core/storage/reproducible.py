"""Reproducible safetensors files: sorted header, content hash, atomic replace, strict reading.

The official writer orders metadata at random, so equal content gave unequal files; this one
writes the same layout (tensors by width of dtype, then by name) in one fixed order.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import FormatError, FormatVersionError, NonFiniteError
from ..tensors import all_finite, tensor_bytes
from .content_hash import ContentHash, PieceHash, RunningHash
from .header import DTYPES, HEADER_CAP_BYTES, FileHeader, TensorEntry, parse_header
from .new_file import replacing

FORMAT_MAJOR, FORMAT_MINOR = 1, 2
PIECES_KEY = "tverase.pieces_sha256"
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
# What files of our own may hold; only checkpoints hold the others.
_OURS = {"F64", "I64", "F32", "I32", "BF16", "F16", "U8", "BOOL"}
_NAMES = {dtype: name for dtype, name in DTYPE_NAMES.items() if name in _OURS - {"F16"}}


def compact_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; NaN is refused (ValueError)."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def write_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> str:
    """Write a file and return its content hash: sha256 of the data section, in hex.

    tensors: any device; float64, float32, bfloat16, int64, int32, uint8 or bool. metadata: must
    hold `tverase.kind`; format, `tverase.format` and the hashes are added. Equal arguments give
    equal bytes. The file appears whole or not at all: a temporary file in the same folder is
    flushed to disk, then takes the name.
    Raises FormatError (dtype, metadata), NonFiniteError, OSError.
    """
    ready = _ordered(tensors)
    with RunningHash() as running:
        for tensor in ready.values():
            running.add(tensor)
        content = running.content()
    kinds = {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in ready.items()}
    header = header_bytes(kinds, complete_metadata(metadata, content))
    with replacing(path) as file:
        file.write(header)
        for tensor in ready.values():
            file.write(tensor_bytes(tensor))
    return content.whole


def read_header(path: str | os.PathLike[str]) -> FileHeader:
    """Parse and check the header alone. Raises FormatError, OSError."""
    with Path(path).open("rb") as file:
        return parse_header(file, Path(path).name)


def read_safetensors(
    path: str | os.PathLike[str], expected_kind: str, *, mapped: bool = False
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file of ours: (tensors as stored, on CPU; metadata).

    Everything is checked: header, offsets, length, kind, format version, hash of the data. mapped:
    the tensors lie in the mapped file, as with the official reader: faster, and writing to one does
    not reach the file; but nobody may write into the file as long as they are in use, and Windows
    does not let it be replaced.
    Raises FormatError, FormatVersionError, NonFiniteError naming the tensor, OSError.
    """
    name, tensors = Path(path).name, {}
    with Path(path).open("rb") as file:
        header = parse_header(file, name)
        check_kind(header.metadata, expected_kind, name)
        data = _mapped(path, file, name)[header.data_start :] if mapped else None
        # Hashed while the next tensor is read and looked at.
        with _hash_of(header.metadata) as running:
            for key, entry in sorted(header.tensors.items(), key=lambda item: item[1].start):
                if entry.dtype not in _OURS:
                    raise FormatError(f"{name}: tensor {key!r}: {entry.dtype} is no dtype of ours")
                tensor = _read(file, key, entry, name) if data is None else _placed(data, entry)
                running.add(tensor)
                _check_finite(key, tensor, name)
                tensors[key] = tensor
            _check_hash(running, header.metadata, name)
    return tensors, dict(header.metadata)


def check_kind(metadata: Mapping[str, str], expected_kind: str, name: str) -> None:
    """Raises FormatError for a foreign file or another kind, FormatVersionError for a newer one."""
    version, kind = metadata.get("tverase.format"), metadata.get("tverase.kind")
    if version is None or kind is None:
        raise FormatError(
            f"{name}: expected a {expected_kind} file of TVErase, but its metadata has no "
            "tverase.format and tverase.kind. A LoRA or a checkpoint is loaded by ComfyUI's nodes."
        )
    major = version.partition(".")[0]
    if not (major.isascii() and major.isdigit() and len(major) < 10):
        raise FormatError(f"{name}: tverase.format: expected e.g. '1.0', got {version!r}")
    if int(major) != FORMAT_MAJOR:
        raise FormatVersionError(
            f"{name}: has format {version}, this version reads {FORMAT_MAJOR}.x. Update TVErase."
        )
    if kind != expected_kind:
        raise FormatError(f"{name}: expected kind {expected_kind!r}, got {kind!r}")


def _ordered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors in file order."""
    ready = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    for key, tensor in ready.items():
        if tensor.dtype not in _NAMES:
            reason = " (values below 6e-5 would be lost)" if tensor.dtype == torch.float16 else ""
            raise FormatError(
                f"{key}: cannot be written as {tensor.dtype}{reason}. Use float32 or bfloat16."
            )
        _check_finite(key, tensor, "write")
    return dict(sorted(ready.items(), key=lambda item: (-item[1].element_size(), item[0])))


def _hash_of(metadata: Mapping[str, str]) -> PieceHash:
    """The hash that a file states; before format 1.2 that of the whole alone."""
    return PieceHash() if PIECES_KEY in metadata else RunningHash()


def _check_hash(running: PieceHash, metadata: Mapping[str, str], name: str) -> None:
    if isinstance(running, RunningHash):
        got, stated = running.content().whole, metadata.get("modelspec.hash_sha256", "")
    else:
        got, stated = running.hexdigest(), metadata[PIECES_KEY]
    stated = stated.removeprefix("0x")
    if stated and stated != got:
        raise FormatError(
            f"{name}: the hash of its data is {got[:12]}..., expected {stated[:12]}...: "
            "the file is damaged or was edited. Copy or save it again."
        )


def complete_metadata(metadata: Mapping[str, str], content: ContentHash) -> dict[str, str]:
    """With format, version and both hashes of the data. Raises FormatError."""
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise FormatError(f"metadata: expected text to text, got {key!r}: {value!r}")
    if "tverase.kind" not in metadata:
        raise FormatError("metadata: expected tverase.kind, it is missing")
    return {
        **metadata,
        "format": "pt",
        "tverase.format": f"{FORMAT_MAJOR}.{FORMAT_MINOR}",
        "modelspec.hash_sha256": f"0x{content.whole}",
        "sshs_model_hash": content.whole,
        PIECES_KEY: content.pieces,
    }


def header_bytes(
    tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], metadata: Mapping[str, str]
) -> bytes:
    """All that precedes the data section; tensors: dtype and shape by name, in file order."""
    table: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    start = 0
    for key, (dtype, shape) in tensors.items():
        end = start + math.prod(shape) * dtype.itemsize
        table[key] = {
            "dtype": DTYPE_NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [start, end],
        }
        start = end
    encoded = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    if len(encoded) > HEADER_CAP_BYTES:
        raise FormatError(f"header: {len(encoded)} bytes, the format allows {HEADER_CAP_BYTES}")
    return struct.pack("<Q", len(encoded)) + encoded


def _read(file: BinaryIO, key: str, entry: TensorEntry, name: str) -> Tensor:
    """The next tensor of the file, in memory of its own."""
    tensor = torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
    view = tensor_bytes(tensor)
    if view.nbytes and file.readinto(view) != view.nbytes:  # type: ignore[attr-defined]
        raise FormatError(f"{name}: ends within tensor {key!r}. Copy or save it again.")
    return tensor


def _mapped(path: str | os.PathLike[str], file: BinaryIO, name: str) -> Tensor:
    """The whole file as uint8 [size], copied page by page where it is written to."""
    size = os.fstat(file.fileno()).st_size
    try:
        return torch.from_file(os.fspath(path), shared=False, size=size, dtype=torch.uint8)
    except RuntimeError as error:  # torch's word for a file that cannot be mapped
        raise FormatError(f"{name}: cannot be mapped into memory: {error}") from error


def _placed(data: Tensor, entry: TensorEntry) -> Tensor:
    """The tensor at its place in the data; a copy where the place does not suit its dtype."""
    dtype, raw = DTYPES[entry.dtype], data[entry.start : entry.end]
    if raw.storage_offset() % dtype.itemsize:
        raw = raw.clone()
    return raw.view(dtype).view(entry.shape)


def _check_finite(key: str, tensor: Tensor, where: str) -> None:
    if tensor.is_floating_point() and not all_finite(tensor):
        raise NonFiniteError(f"{where}: tensor {key!r} holds NaN or infinity")
