"""A strength's choice on disk: its fields as JSON, which the file's hash covers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import torch

from ..errors import FormatError, TveraseError
from ..storage.reproducible import compact_json, read_safetensors, write_safetensors
from .choice import StrengthChoice

KIND, FIELDS = "strength_choice", "fields"


def save_choice(path: str | os.PathLike[str], choice: StrengthChoice) -> None:
    """Write it in one stroke. Raises OSError, ValueError for a number that is none."""
    text = compact_json(asdict(choice)).encode()
    held = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    write_safetensors(path, {FIELDS: held}, {"tverase.kind": KIND})


def load_choice(path: str | os.PathLike[str]) -> StrengthChoice:
    """What was saved, equal in all its fields. Raises FormatError, FormatVersionError, OSError."""
    tensors, _ = read_safetensors(path, KIND)
    try:
        choice: StrengthChoice = _made(StrengthChoice, json.loads(bytes(tensors[FIELDS].numpy())))
    except (LookupError, TypeError, ValueError, AttributeError, TveraseError) as error:
        raise FormatError(f"no whole choice of a strength: {error!r}") from error
    return choice


def _made(kind: Any, held: Any) -> Any:
    """The JSON value as what the field's type says."""
    if get_origin(kind) is UnionType:
        return None if held is None else _made(get_args(kind)[0], held)
    if get_origin(kind) is tuple:
        return tuple(_made(get_args(kind)[0], value) for value in held)
    if is_dataclass(kind) and isinstance(held, Mapping):
        kinds = get_type_hints(kind)
        return kind(**{f.name: _made(kinds[f.name], held[f.name]) for f in fields(kind)})  # type: ignore[operator]
    if not isinstance(held, (int, float) if kind is float else kind):
        raise TypeError(f"expected {kind.__name__}, got {held!r:.40}")
    return held
