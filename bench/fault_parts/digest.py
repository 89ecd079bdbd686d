"""One digest of all that is in a result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from tverase_core.tensors import tensor_bytes
from tverase_core.vector.provenance import Provenance


def digest_of(value: Any) -> str:
    """sha256 of all that is in a result: tensors to the bit, texts, numbers; what says when it was
    made is left out."""
    total = hashlib.sha256()
    for part in _parts(value):
        total.update(part)
    return total.hexdigest()


def _parts(value: Any) -> Iterator[bytes | memoryview]:
    if isinstance(value, Tensor):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield tensor_bytes(value.cpu())
    elif isinstance(value, bytes):
        yield value
    elif isinstance(value, Provenance):
        yield repr((value.concepts, sorted(value.recipe.items()))).encode()
    elif is_dataclass(value):
        for field in fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from _parts(value[key])
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _parts(part)
    else:
        yield repr(value).encode()
