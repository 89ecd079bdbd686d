"""The header of a safetensors file, read strictly: what it states must fit the file and torch.

A dtype that torch or this module does not know is no fault of the file: only reading the tensor
needs it, see `torch_dtype`.
"""

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
# Bits of an element where torch has no such dtype, or not in every version that is supported.
_OTHER_BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "U16": 16,
    "U32": 32,
    "U64": 64,
    "C64": 64,
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

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What a file says about itself; data_start: offset of the data section in bytes."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorEntry]
    data_start: int


def torch_dtype(entry: TensorEntry, key: str, name: str) -> torch.dtype:
    """What the tensor is read as. Raises FormatError for a dtype that cannot be read."""
    if entry.dtype not in DTYPES:
        raise FormatError(
            f"{name}: {key!r} is stored as {entry.dtype}, which cannot be read here. "
            "Use this file in fp16, bf16, fp32 or plain fp8."
        )
    return DTYPES[entry.dtype]


def parse_header(file: BinaryIO, name: str) -> FileHeader:
    """The header of a file that is open at its start; `name` is for messages.

    Raises FormatError, whatever stands there: torch can hold every tensor that it returns.
    """
    size = os.fstat(file.fileno()).st_size
    head = file.read(8)
    if len(head) < 8:
        raise FormatError(f"{name}: {size} bytes is too short for a safetensors file. {_ANEW}")
    if head.startswith(b"GGUF"):
        raise FormatError(
            f"{name}: is a GGUF file, whose weights are quantised in blocks. Use the safetensors "
            "file that it was made from."
        )
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
    if not isinstance(value["dtype"], str):
        raise ValueError(f"tensor {key!r}: dtype is {value['dtype']!r}, expected a text")
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
        raise ValueError(f"tensor {key!r}: sizes and offsets must be whole numbers >= 0")
    # Also of a tensor without elements, as torch multiplies the other sizes all the same.
    if len(shape) > _AXES or math.prod(max(1, size) for size in shape) >= 2**63:
        raise ValueError(f"tensor {key!r} is larger than any tensor can be")
    return TensorEntry(value["dtype"], shape, start, end)


def _bytes(entry: TensorEntry) -> int | None:
    """What the tensor takes in the file; None for a dtype whose size nobody here knows."""
    if entry.dtype in DTYPES:
        return entry.numel * DTYPES[entry.dtype].itemsize
    bits = _OTHER_BITS.get(entry.dtype)
    return None if bits is None else -(-entry.numel * bits // 8)


def _check_offsets(tensors: Mapping[str, TensorEntry], data_bytes: int, name: str) -> None:
    """The tensors must fill the data section without gap or overlap."""
    position = 0
    for key, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        size = _bytes(entry)
        expected = entry.end - entry.start if size is None else size
        if entry.start != position or entry.end - entry.start != max(0, expected):
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
