"""Compact task-vector files: matrices as two low-rank factors, named as LoRA files name them.

`<module>.lora_up.weight` [out, r] and `<module>.lora_down.weight` [r, in]; convolutions
[out, r, 1, 1] and [r, in, kh, kw]. The stock Load LoRA node multiplies them, with factor 1
because no `.alpha` is written. Everything else is a full difference, as in any file of ours.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from ..errors import ConfigError, FormatError
from ..model.fingerprint import BaseFingerprint
from ..ports import Progress, quiet
from ..storage.reproducible import compact_json, write_safetensors
from ..vector.compression import factors_of
from ..vector.delta_names import WEIGHT, file_name_of, file_names_of
from ..vector.provenance import Provenance
from ..vector.task_vector import TaskVector
from .metadata import COMPACT, DTYPES, task_vector_metadata

# Rank 1 of a matrix of 16384 x 16384 takes so much less than the matrix; no model has larger ones.
MOST_TIMES = 1 << 13
UP, DOWN = ".lora_up.weight", ".lora_down.weight"


@dataclass(frozen=True, slots=True)
class CompactTensors:
    """What a compact file holds, and what it cost.

    tensors: by their names in the file. ranks: by weight key, of those stored as factors.
    error: length of what was lost over that of the vector, rounding to dtype included.
    kept: numbers written, as a share of the vector's.
    """

    tensors: Mapping[str, Tensor]
    ranks: Mapping[str, int]
    error: float
    kept: float

    def sentence(self) -> str:
        used = sorted(self.ranks.values())
        ranks = f"{len(used)} matrices of rank {used[0]} to {used[-1]}" if used else "no factors"
        return f"{ranks}; error {self.error:.2%} of the vector's length; {self.kept:.1%} kept"


def compact_tensors(
    task_vector: TaskVector,
    max_error: float,
    dtype: Literal["float32", "bfloat16"] = "bfloat16",
    progress: Progress = quiet,
) -> CompactTensors:
    """The smallest rank of every matrix whose relative error is not above max_error.

    max_error: 0 <= e < 1, of each matrix (Frobenius norm) before rounding to dtype. Matrices that
    factors would not make smaller stay whole. `progress` cancels by raising. Raises ConfigError,
    and FormatError for an empty vector and for names that a file cannot hold.
    """
    if not 0 <= max_error < 1:
        raise ConfigError(f"compact file: largest error: expected 0 <= e < 1, got {max_error}")
    if dtype not in DTYPES:
        raise ConfigError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    if not len(task_vector):
        raise FormatError("the task vector is empty: a file of it would erase nothing")
    names = file_names_of(task_vector.deltas)
    kind, tensors, ranks = DTYPES[dtype], dict[str, Tensor](), dict[str, int]()
    lost = whole = 0.0
    total = 0
    for done, (key, delta) in enumerate(task_vector.deltas.items()):
        progress(done, len(task_vector), f"shrinking {key}")
        parts = _factors(key, delta, max_error)
        if parts is None:
            stored = delta.to(kind)
            tensors[names[key]] = stored
            rebuilt = stored.double()
        else:
            up, down = (part.to(kind) for part in parts)
            stem = key.removesuffix(WEIGHT)
            tensors[stem + UP], tensors[stem + DOWN] = up.contiguous(), down.contiguous()
            ranks[key] = down.shape[0]
            rebuilt = _product(up, down).double()
        lost += float((delta.double() - rebuilt).square().sum())
        whole += float(delta.double().square().sum())
        total += delta.numel()
    written = sum(tensor.numel() for tensor in tensors.values())
    return CompactTensors(tensors, ranks, math.sqrt(lost / whole), written / total)


def save_compact(
    path: str | os.PathLike[str],
    task_vector: TaskVector,
    max_error: float,
    *,
    dtype: Literal["float32", "bfloat16"] = "bfloat16",
    progress: Progress = quiet,
) -> CompactTensors:
    """Write a compact file that says what was lost. Raises as `compact_tensors`, and OSError."""
    made = compact_tensors(task_vector, max_error, dtype, progress)
    keys = list(task_vector.deltas)
    write_compact(path, made, task_vector.base, task_vector.provenance, keys, max_error)
    return made


def write_compact(
    path: str | os.PathLike[str],
    made: CompactTensors,
    base: BaseFingerprint,
    provenance: Provenance,
    keys: Sequence[str],
    max_error: float = 0.0,
) -> str:
    """Write what `compact_tensors` made, or the same of another source; the content hash.

    keys: the weights that change. max_error: what was asked for. Raises as `write_safetensors`.
    """
    facts = {
        "error": made.error,
        "kept": made.kept,
        "max_error": max_error,
        "ranks": [min(made.ranks.values()), max(made.ranks.values())] if made.ranks else None,
    }
    recorded = replace(provenance, extra={**provenance.extra, COMPACT: compact_json(facts)})
    return write_safetensors(path, made.tensors, task_vector_metadata(base, recorded, keys))


def multiplied_out(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """A file's tensors with every pair of factors multiplied out, under `.diff` names, float32.

    name: of the file, for sentences. Raises FormatError for half a pair, factors that give no
    matrix or one of no model's size, and a pair beside a `.diff` of the same weight.
    """
    plain = {key: t for key, t in tensors.items() if not key.endswith((UP, DOWN))}
    stored, whole = sum(tensor.numel() for tensor in tensors.values()), 0
    for key, up in tensors.items():
        if not key.endswith((UP, DOWN)):
            continue
        stem = key.removesuffix(UP).removesuffix(DOWN)
        partner = tensors.get(stem + DOWN if key.endswith(UP) else stem + UP)
        if partner is None:
            raise FormatError(f"{name}: {key!r} lacks its partner, the other factor of {stem!r}")
        if key.endswith(DOWN):
            continue
        if not are_factors(up, partner):
            raise FormatError(
                f"{name}: the factors of {stem!r} do not fit: expected floating-point numbers in "
                f"[out, r] or [out, r, 1, 1] and [r, in, ...], r at least 1, got {list(up.shape)} "
                f"({up.dtype}) and {list(partner.shape)} ({partner.dtype}). Make the file again."
            )
        whole += up.shape[0] * partner[0].numel()
        if whole > MOST_TIMES * stored:
            raise FormatError(
                f"{name}: its factors, {stored:,} values, multiply out to {whole:,} or more; "
                f"expected at most {MOST_TIMES:,} times as many. No model has such weights. "
                "Download the file again, or give another."
            )
        diff = file_name_of(stem + WEIGHT)
        if diff in tensors:
            raise FormatError(
                f"{name}: {key!r} and {diff!r} are both the delta of {stem!r}; expected one of "
                "them. Make the file again."
            )
        plain[diff] = _product(up, partner)
    return plain


def are_factors(up: Tensor, down: Tensor) -> bool:
    """Do they multiply to a matrix or to a convolution: [out, r, 1...] and [r, in, ...]?"""
    floating = up.is_floating_point() and down.is_floating_point()
    axes = up.ndim >= 2 and down.ndim >= 2 and math.prod(up.shape[2:]) == 1
    return floating and axes and up.shape[1] == down.shape[0] > 0


def _factors(key: str, delta: Tensor, max_error: float) -> tuple[Tensor, Tensor] | None:
    """(up, down) in the file's shapes, or None where the whole delta is smaller."""
    if delta.ndim not in (2, 4) or not key.endswith(WEIGHT):
        return None
    up, down = factors_of(delta, max_error)
    if up.numel() + down.numel() >= delta.numel():
        return None
    if delta.ndim == 4:
        return up[:, :, None, None], down.reshape(-1, *delta.shape[1:])
    return up, down


def _product(up: Tensor, down: Tensor) -> Tensor:
    flat = up.float().flatten(1) @ down.float().flatten(1)
    return flat.reshape(up.shape[0], *down.shape[1:])
