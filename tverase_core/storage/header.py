"""The header of a safetensors file, read strictly: what it states must fit the file and torch."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch

from ..errors import FormatError

HEADER_CAP_BYTES = 100_000_000  # the format's own limit
DTYPES = {
    "F64": torch.float64,
    "I64": torch.int64,
    "F32": torch.float32,
    "I32": torch.int32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I16": torch.int16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_AXES = 64  # what torch can look at
_ANEW = "Download or save it again."


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """dtype as the format names it, shape, and where the bytes lie in the data section."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What a file says about itself; data_start: offset of the data section in bytes."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorEntry]
    data_start: int


def parse_header(file: BinaryIO, name: str) -> FileHeader:
    """The header of a file that is open at its start; `name` is for messages.

    Raises FormatError, whatever stands there: torch can hold every tensor that it returns.
    """
    size = os.fstat(file.fileno()).st_size
    head = file.read(8)
    if len(head) < 8:
        raise FormatError(f"{name}: {size} bytes is too short for a safetensors file. {_ANEW}")
    length = struct.unpack("<Q", head)[0]
    if not 2 <= length <= min(size - 8, HEADER_CAP_BYTES):
        raise FormatError(
            f"{name}: states a header of {length} bytes in a file of {size}: "
            f"it is truncated or no safetensors file. {_ANEW}"
        )
    try:
        text = file.read(length).decode()
        if not text.startswith("{"):
            raise ValueError(f"expected it to begin with '{{', got {text[:1]!r}")
        table = json.loads(text, object_pairs_hook=_no_duplicates)
        metadata = table.pop("__metadata__", {})
        tensors = {str(key): _entry(str(key), value) for key, value in table.items()}
        texts = all(isinstance(value, str) for value in metadata.values())
        for word in (*tensors, *metadata, *metadata.values()) if texts else ():
            word.encode()  # JSON can write half a character, which no file or console takes
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"{name}: its header is not valid: {error}. {_ANEW}") from error
    if not texts:
        raise FormatError(f"{name}: its metadata holds something else than text")
    _check_offsets(tensors, size - 8 - length, name)
    return FileHeader(metadata, tensors, 8 + length)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the name {key!r} occurs twice")
        found[key] = value
    return found


def _entry(key: str, value: Mapping[str, Any]) -> TensorEntry:
    start, end = value["data_offsets"]
    shape = tuple(value["shape"])
    if value["dtype"] not in DTYPES:
        raise ValueError(f"tensor {key!r} has the unknown dtype {value['dtype']!r}")
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
        raise ValueError(f"tensor {key!r}: sizes and offsets must be whole numbers >= 0")
    # Also of a tensor without elements, as torch multiplies the other sizes all the same.
    if len(shape) > _AXES or math.prod(max(1, size) for size in shape) >= 2**63:
        raise ValueError(f"tensor {key!r} is larger than any tensor can be")
    return TensorEntry(value["dtype"], shape, start, end)


def _check_offsets(tensors: Mapping[str, TensorEntry], data_bytes: int, name: str) -> None:
    """The tensors must fill the data section without gap or overlap."""
    position = 0
    for key, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        expected = math.prod(entry.shape) * DTYPES[entry.dtype].itemsize
        if entry.start != position or entry.end - entry.start != expected:
            raise FormatError(
                f"{name}: tensor {key!r}: expected bytes {position} to {position + expected}, "
                f"got {entry.start} to {entry.end}"
            )
        position = entry.end
    if position != data_bytes:
        fault = "is truncated" if position > data_bytes else "has trailing bytes"
        raise FormatError(
            f"{name}: {fault}: expected {position} bytes of data, got {data_bytes}. {_ANEW}"
        )
