"""A LoRA file and the base it was made for -> a task vector, its factors kept as they are.

A LoRA (arXiv 2106.09685) adds alpha / rank * up @ down to a weight: that is the difference of the
tuned and the base weight, so no weight has to be read. The `mid` factor of LyCORIS' LoCon (arXiv
2309.14859) goes into `down`; differences of whole weights beside the factors are taken along.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...errors import BaseMismatchError, FormatError, KeyMismatchError, TveraseError
from ...ports import Progress, quiet
from ...storage.new_file import check_not_source
from ...storage.reproducible import read_header
from ...vector.delta_names import file_name_of
from ...vector.provenance import Provenance
from ...vector.task_vector import check_finite
from ..checkpoint import CheckpointFile
from ..checkpoint_fingerprint import file_fingerprint
from ..checkpoint_kinds import ADAPTER_NAME
from ..compact import DOWN, UP, CompactTensors, write_compact
from ..extract import Extraction
from ..metadata import DTYPES
from .factor import CONFIG, LoraSettings, lora_settings
from .names import bias_of, keys_of_modules, parts_by_module
from .product import LoraFactors, lora_factors, whole_difference

_FOLDER_FILE = "adapter_model.safetensors"


def is_lora_file(path: str | os.PathLike[str]) -> bool:
    """Do its names say so? A folder of PEFT counts as its file. False for what cannot be read."""
    try:
        header = read_header(_file_of(path))
    except (TveraseError, OSError):
        return False
    return any(ADAPTER_NAME.search(name) for name in header.tensors)


def _file_of(path: str | os.PathLike[str]) -> Path:
    given = Path(path)
    return given / _FOLDER_FILE if (given / _FOLDER_FILE).is_file() else given


def extract_from_lora(
    base: str | os.PathLike[str],
    lora: str | os.PathLike[str],
    out: str | os.PathLike[str],
    provenance: Provenance | None = None,
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    progress: Progress = quiet,
) -> Extraction:
    """Write a compact task-vector file of what a LoRA adds to the diffusion model of `base`.

    lora: a file, or a folder of PEFT. dtype: of the factors. A little of the base is read, for its
    hash. Text-encoder parts are left out and counted. Raises FormatError (another kind of adapter,
    half a pair, a task vector; the tensor is named), KeyMismatchError (no such weight in base),
    ShapeMismatchError, BaseMismatchError (nothing is added), NonFiniteError, ConfigError, OSError.
    """
    if dtype not in DTYPES:
        raise FormatError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    source, target = _file_of(lora), Path(out)
    check_not_source(target, (base, source))
    header = read_header(source)
    if "tverase.kind" in header.metadata:
        raise FormatError(f"{source.name}: is a task vector already. Use it as it is.")
    modules, text = parts_by_module(header.tensors, source.name)
    settings = lora_settings(source, header.metadata)
    with CheckpointFile(base) as model:
        made = _Reading(source, modules, settings, model, DTYPES[dtype]).converted(progress)
        known = provenance or Provenance()
        identity = file_fingerprint(model, known.prediction or model.prediction or "epsilon")
        described, total = model.described(), len(model.sizes())
    content = write_compact(target, made.compact, identity, known, list(made.keys))
    progress(1, 1, "written")
    words = f"{source.name}: {made.words()}"
    words += f"; {text} tensors of text encoders left out" * bool(text)
    counts = len(made.keys), total - len(made.keys)
    return Extraction(described, words, *counts, target.stat().st_size, content)


@dataclass(frozen=True, slots=True)
class _Converted:
    """compact: the tensors to write. keys: the weights that they change. unscaled: modules whose
    factor is 1 because nothing states another."""

    compact: CompactTensors
    keys: tuple[str, ...]
    unscaled: int
    place: str

    def words(self) -> str:
        ranks = self.compact.ranks.values()
        whole = len(self.keys) - len(ranks)
        parts = (
            [f"LoRA of {len(ranks)} modules, ranks {min(ranks)} to {max(ranks)}"] if ranks else []
        )
        parts += [f"{whole} whole differences"] * bool(whole)
        if self.unscaled:
            parts.append(
                f"no alpha is stated for {self.unscaled} modules (neither in the file nor in "
                f"{CONFIG} beside it), so their factor is 1"
            )
        elif self.place:
            parts.append(f"alpha from {self.place}")
        return "; ".join(parts)


@dataclass
class _Reading:
    """An adapter's file on the way to the tensors of a compact file."""

    source: Path
    modules: Mapping[str, Mapping[str, str]]
    settings: LoraSettings | None
    model: CheckpointFile
    dtype: torch.dtype
    tensors: dict[str, Tensor] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    unscaled: int = 0
    by_settings: bool = False
    lost: float = 0.0
    whole: float = 0.0
    dense: int = 0

    def converted(self, progress: Progress) -> _Converted:
        """The factors under the names of a compact file; what adds nothing is left out."""
        sizes, file = self.model.sizes(), self.source.name
        keys = keys_of_modules(self.modules, sizes, file, self.model.name)
        try:
            with safe_open(self.source, "pt") as opened:
                for done, (module, key) in enumerate(sorted(keys.items(), key=lambda p: p[1])):
                    progress(done, len(keys), f"reading {module}")
                    names = self.modules[module]
                    read = {part: opened.get_tensor(name) for part, name in names.items()}
                    self._take(module, key, read)
        except SafetensorError as problem:
            raise FormatError(f"{file}: cannot be read: {problem}. Save it again.") from problem
        if not self.tensors:
            raise BaseMismatchError(
                f"{file}: adds nothing to the diffusion model of {self.model.name}, so there is no "
                "task vector. Give a LoRA that was trained on the UNet."
            )
        written = sum(tensor.numel() for tensor in self.tensors.values())
        error = (self.lost / self.whole) ** 0.5
        compact = CompactTensors(self.tensors, self.ranks, error, written / self.dense)
        place = self.settings.place if self.settings and self.by_settings else ""
        return _Converted(compact, tuple(self.keys), self.unscaled, place)

    def _take(self, module: str, key: str, read: dict[str, Tensor]) -> None:
        where = f"{self.source.name}: {module}"
        differences = {key: read.pop("diff", None), bias_of(key): read.pop("diff_b", None)}
        if differences[key] is not None and read.keys() - {"alpha"}:
            raise FormatError(f"{where}: has factors and a whole difference of one weight")
        for own, tensor in differences.items():
            if tensor is not None:
                self._add_whole(own, tensor, where)
        if read.keys() - {"alpha"} or differences == dict.fromkeys(differences):
            self._add_factors(module, key, read, where)

    def _add_factors(self, module: str, key: str, read: dict[str, Tensor], where: str) -> None:
        made = lora_factors(read, self.model.weights[key].shape, where)
        rank = made.down.shape[0]
        if "alpha" not in read and self.settings:
            made = LoraFactors(made.up * self.settings.factor(module, rank), made.down)
            self.by_settings = True
        product = made.product()
        check_finite(product, f"{self.source.name}: the product of {module}")
        if not bool(product.any()):
            return
        self.unscaled += "alpha" not in read and self.settings is None
        up, down = made.up.to(self.dtype), made.down.to(self.dtype)
        stem = file_name_of(key).removesuffix(".diff")
        self.tensors |= {stem + UP: up.contiguous(), stem + DOWN: down.contiguous()}
        self.ranks[key] = rank
        self._count(key, product, LoraFactors(up.float(), down.float()).product())

    def _add_whole(self, key: str, tensor: Tensor, where: str) -> None:
        if key not in self.model.sizes():
            raise KeyMismatchError(
                f"{where}: {self.model.name} has no {key}. Give the base that the file was made "
                "for.",
                unexpected=[key],
            )
        delta = whole_difference(tensor, self.model.weights[key].shape, where)
        check_finite(delta, f"{where}: its difference")
        if not bool(delta.any()):
            return
        written = self.tensors[file_name_of(key)] = delta.to(self.dtype).contiguous()
        self._count(key, delta, written.float())

    def _count(self, key: str, exact: Tensor, written: Tensor) -> None:
        self.keys.append(key)
        self.lost += float((exact - written).double().square().sum())
        self.whole += float(exact.double().square().sum())
        self.dense += exact.numel()
