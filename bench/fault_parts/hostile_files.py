"""Mutations of safetensors files that know what such a file is made of."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .hostile_text import odd_text, odd_value, with_odd_part

BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "U8": 1, "BOOL": 1, "I8": 1}
DTYPES = [*BYTES, "F8_E4M3", "F8_E8M0", "F4", "U64", "C64", "f32", "", "X"]
SIZES = [0, 1, 2, 3, 7, 255, 65536, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -1]
HASHES = ("modelspec.hash_sha256", "sshs_model_hash", "tverase.pieces_sha256")
ENDINGS = (".diff", ".diff_b", ".weight", ".bias", ".alpha", ".lora_up.weight", ".lora_down.weight")
PREFIXES = ("diffusion_model.", "text_encoders.", "model.diffusion_model.", "base_model.model.")
LORA_PARTS = (".lora_mid.weight", ".dora_scale", ".hada_w1_a", ".lokr_w1", ".alpha", ".diff_b")


@dataclass
class Parts:
    """A file taken apart; names: in the order of the header, which need not be that of the data.

    length: what is written in front instead of the header's true length.
    """

    metadata: Any
    table: dict[str, Any]
    data: bytearray
    length: int | None = None
    text: Callable[[str], str] = field(default=lambda text: text)

    @classmethod
    def of(cls, raw: bytes) -> Parts:
        length = struct.unpack("<Q", raw[:8])[0]
        table = json.loads(raw[8 : 8 + length])
        return cls(table.pop("__metadata__", {}), table, bytearray(raw[8 + length :]))

    def bytes(self) -> bytes:
        metadata = {} if self.metadata is None else {"__metadata__": self.metadata}
        text = self.text(json.dumps({**metadata, **self.table}))
        header = text.encode("utf-8", "surrogatepass")
        length = len(header) if self.length is None else self.length % 2**64
        return struct.pack("<Q", length) + header + bytes(self.data)


def hostile_file(source: random.Random, raw: bytes) -> bytes:
    """One to four mutations of a valid file; half of the results state no hash of their data, so
    that readers get past it."""
    if source.random() < 0.1:
        return _raw(source, bytearray(raw))
    parts = Parts.of(raw)
    if source.random() < 0.6:
        for key in HASHES:
            parts.metadata.pop(key, None)
    for _ in range(source.choice((1, 1, 2, 4))):
        change = source.choice(_CHANGES)
        if parts.table or change in _ANY:
            change(source, parts)
    made = parts.bytes()
    return _raw(source, bytearray(made)) if source.random() < 0.05 else made


def _raw(source: random.Random, raw: bytearray) -> bytes:
    """Bytes flipped, left out, doubled, put in; a file cut off."""
    for _ in range(source.choice((1, 1, 3, 20))):
        at = source.randrange(len(raw) + 1)
        kind = source.randrange(5)
        if kind == 0 and at < len(raw):
            raw[at] ^= 1 << source.randrange(8)
        elif kind == 1:
            del raw[at : at + source.randrange(1, 64)]
        elif kind == 2:
            raw[at:at] = raw[at : at + source.randrange(1, 64)]
        elif kind == 3:
            raw[at:at] = source.randbytes(source.randrange(1, 9))
        elif source.random() < 0.3:
            del raw[at:]
    return bytes(raw)


def _name(source: random.Random, parts: Parts) -> str:
    return source.choice(list(parts.table))


def _entry(source: random.Random, parts: Parts) -> dict[str, Any]:
    found = parts.table[_name(source, parts)]
    return found if isinstance(found, dict) else {}


def _length(source: random.Random, parts: Parts) -> None:
    true = len(parts.bytes()) - 8 - len(parts.data)
    near = [true - 1, true + 1, true + len(parts.data), true + len(parts.data) + 1]
    parts.length = source.choice([*near, *SIZES, 99_999_999, 2**63 + 5])


def _dtype(source: random.Random, parts: Parts) -> None:
    _entry(source, parts)["dtype"] = source.choice([*DTYPES, None, 4, ["F32"], {}])


def _shape(source: random.Random, parts: Parts) -> None:
    entry = _entry(source, parts)
    shape = entry.get("shape")
    if not isinstance(shape, list) or source.random() < 0.1:
        entry["shape"] = odd_value(source)
        return
    kind = source.randrange(4)
    if kind == 0 and shape:
        shape[source.randrange(len(shape))] = source.choice([*SIZES, 1.0, "3", None, True, [1]])
    elif kind == 1:
        shape.insert(source.randrange(len(shape) + 1), source.choice([0, 1, 1, 2**40]))
    elif kind == 2 and shape:
        shape.pop()
    else:
        entry["shape"] = [1] * source.choice((64, 65, 5000))


def _offsets(source: random.Random, parts: Parts) -> None:
    entry = _entry(source, parts)
    offsets = entry.get("data_offsets")
    if not isinstance(offsets, list) or len(offsets) != 2 or source.random() < 0.1:
        entry["data_offsets"] = source.choice([odd_value(source), [0], [0, 1, 2], {}])
        return
    offsets[source.randrange(2)] = source.choice([*SIZES, *offsets[::-1], len(parts.data), 0.5])


def _other_tensor(source: random.Random, parts: Parts) -> None:
    """Another shape and dtype, with data to match: the header is in order, the content is not."""
    name = _name(source, parts)
    entry = parts.table[name]
    try:
        shape = list(entry["shape"])
        start, end = entry["data_offsets"]
        dtype = source.choice(list(BYTES)) if source.random() < 0.5 else entry["dtype"]
        kind = source.randrange(5)
        if kind == 0:
            shape = []
        elif kind == 1:
            shape = [source.choice((0, 1, 2, 3, 5)) for _ in range(source.randrange(6))]
        elif kind == 2 and shape:
            shape[source.randrange(len(shape))] = source.choice((0, 1, 2, 4))
        elif kind == 3:
            shape = [source.choice((300, 1000)), 1]
        elif shape:
            shape = shape[::-1]
        size = math.prod(shape) * BYTES[dtype]
        if size > 1 << 16:
            return
        fill = source.choice((b"\x00", b"\xff", b"\x7f", b"\x01", b""))
        values = fill * size if fill else source.randbytes(size)
        moved = size - (end - start)
        parts.data[start:end] = values
        for other in parts.table.values():
            if other is not entry and other["data_offsets"][0] >= end:
                other["data_offsets"] = [place + moved for place in other["data_offsets"]]
        parts.table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + size]}
    except (TypeError, KeyError, ValueError, IndexError):
        return  # an earlier mutation has left no tensor to change


def _rename(source: random.Random, parts: Parts) -> None:
    name = _name(source, parts)
    stem = name
    for ending in ENDINGS:
        stem = stem.removesuffix(ending)
    new = source.choice(
        [
            odd_text(source),
            stem + source.choice((*ENDINGS, *LORA_PARTS)),
            source.choice(PREFIXES) + name,
            name[: source.randrange(len(name) + 1)],
            name.replace(".", source.choice(("..", "/", "_", "\x00"))),
            "../" * source.randrange(1, 9) + name,
            name + "x" * 5000,
            "__metadata__",
        ]
    )
    parts.table[new] = parts.table.pop(name)


def _more(source: random.Random, parts: Parts) -> None:
    """A further tensor, at the end of the data."""
    name = _name(source, parts)
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    dtype = source.choice(list(BYTES))
    shape = source.choice(([], [1], [2], [1, 1], [0]))
    size = math.prod(shape) * BYTES[dtype]
    start = len(parts.data)
    parts.data += source.choice((b"\x00" * size, b"\xff" * size, source.randbytes(size)))
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + size]}
    parts.table[name + source.choice((*ENDINGS, *LORA_PARTS))] = entry


def _less(source: random.Random, parts: Parts) -> None:
    """A tensor and its data gone."""
    name = _name(source, parts)
    entry = parts.table.pop(name)
    try:
        start, end = entry["data_offsets"]
        del parts.data[start:end]
        for other in parts.table.values():
            if other["data_offsets"][0] >= end:
                other["data_offsets"] = [place - (end - start) for place in other["data_offsets"]]
    except (TypeError, KeyError, ValueError):
        return


def _values(source: random.Random, parts: Parts) -> None:
    """NaN, infinity or noise among the data."""
    if parts.data:
        at = source.randrange(len(parts.data)) // 4 * 4
        bits = (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\xff\xff", b"\xff\xff\x7f\x7f")
        parts.data[at : at + 4] = source.choice((*bits, source.randbytes(4)))


def _metadata(source: random.Random, parts: Parts) -> None:
    """A value, or a part of the JSON inside it, is another; a key is gone."""
    held = parts.metadata
    if not isinstance(held, dict) or not held:
        parts.metadata = odd_value(source)
        return
    key = source.choice(list(held))
    kind = source.randrange(8)
    if kind == 0:
        held.pop(key)
    elif kind == 1:
        held[key] = source.choice([odd_value(source), odd_text(source)])
    elif kind == 2:
        held[source.choice(list(held))] = held[key]
    elif kind == 3 and source.random() < 0.2:
        parts.metadata = odd_value(source)
    elif isinstance(held[key], str):
        try:
            inner = json.loads(held[key])
            held[key] = json.dumps(with_odd_part(source, inner))
        except (ValueError, RecursionError):
            held[key] = odd_text(source, held[key])


def _header_text(source: random.Random, parts: Parts) -> None:
    """What only the text of the header can say: a name twice, depth, numbers of any length."""
    kind = source.randrange(7)
    name = json.dumps(_name(source, parts))
    if kind == 0:
        entry = json.dumps(parts.table[json.loads(name)])
        parts.text = lambda text: f"{{{name}:{entry},{text[1:]}"
    elif kind == 1:
        depth = source.choice((50, 1000, 5000, 30000))
        parts.text = lambda text: f'{{"deep":{"[" * depth}{"]" * depth},{text[1:]}'
    elif kind == 2:
        digits = source.choice((30, 5000))
        parts.text = lambda text: text.replace('"shape": [', f'"shape": [{"9" * digits},', 1)
    elif kind == 3:
        word = source.choice(("NaN", "Infinity", "-0", "1e999", "1E400", "0x10", "null"))
        parts.text = lambda text: text.replace('"data_offsets": [', f'"data_offsets": [{word},', 1)
    elif kind == 4:
        parts.text = lambda text: " " * 5000 + text
    elif kind == 5:
        parts.text = lambda text: "﻿" + text
    else:
        parts.text = lambda text: text + source.choice(("}", " ", "\x00", "{}", ","))


_ANY = (_metadata, _length, _values)
_CHANGES = (
    _length,
    _dtype,
    _shape,
    _offsets,
    _other_tensor,
    _other_tensor,
    _other_tensor,
    _rename,
    _rename,
    _more,
    _less,
    _values,
    _metadata,
    _metadata,
    _metadata,
    _header_text,
)
