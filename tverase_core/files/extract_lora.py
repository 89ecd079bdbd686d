"""A LoRA file and the base it was made for -> a task vector, its factors kept as they are.

A LoRA (arXiv 2106.09685) adds alpha / rank * up @ down to a weight: that is the difference of the
tuned and the base weight, so no weight has to be read. Names of kohya's trainers, of diffusers and
PEFT, and of ComfyUI are known, as is the `mid` factor of LyCORIS' LoCon (arXiv 2309.14859).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import (
    BaseMismatchError,
    FormatError,
    KeyMismatchError,
    ShapeMismatchError,
    TveraseError,
    listed,
)
from ..model.layout import DIFFUSION_PREFIX
from ..ports import Progress, quiet
from ..storage.new_file import check_not_source
from ..storage.reproducible import read_header
from ..vector.delta_names import WEIGHT
from ..vector.provenance import Provenance
from ..vector.task_vector import check_finite
from .checkpoint import CheckpointFile, file_fingerprint
from .checkpoint_kinds import LORA_NAME
from .compact import DOWN, UP, CompactTensors, write_compact
from .diffusers_names import diffusers_names
from .extract import Extraction
from .metadata import DTYPES

_PARTS = re.compile(
    r"(?P<module>.+?)(?:"
    r"(?:[._]lora\.|\.lora_linear_layer\.|\.lora_)(?P<side>up|down|mid)\.weight"
    r"|\.lora_(?P<letter>[AB])(?:\.default)?(?:\.weight)?"
    r"|\.(?P<alpha>alpha))"
)
_SIDES = {"A": "down", "B": "up"}
_TEXT = re.compile(r"(?:base_model\.model\.)?(?:lora_te|text_encoder|text_model|te\d?_)")
_ELSEWHERE = "Load it onto the base with ComfyUI's Load LoRA and use the node Extract Task Vector."
_OTHER_KINDS = (
    (r"\.dora_scale$", "is of a DoRA, whose change depends on the base's weights"),
    (r"\.hada_", "is of a LoHa"),
    (r"\.lokr_", "is of a LoKr"),
    (r"\.(?:diff|diff_b|w_norm|b_norm|set_weight)$", "is no factor but a whole weight"),
)


@dataclass(frozen=True, slots=True)
class LoraFactors:
    """up float32 [out, r, ...] with alpha / rank in it, down float32 [r, in, ...]."""

    up: Tensor
    down: Tensor

    def product(self) -> Tensor:
        """The delta [out, in, ...]."""
        flat = self.up.flatten(1) @ self.down.flatten(1)
        return flat.reshape(self.up.shape[0], *self.down.shape[1:])


def is_lora_file(path: str | os.PathLike[str]) -> bool:
    """Do its names say so? False for whatever cannot be read."""
    try:
        header = read_header(path)
    except (TveraseError, OSError):
        return False
    return any(LORA_NAME.search(name) for name in header.tensors)


def extract_from_lora(
    base: str | os.PathLike[str],
    lora: str | os.PathLike[str],
    out: str | os.PathLike[str],
    story: Provenance | None = None,
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    progress: Progress = quiet,
) -> Extraction:
    """Write a compact task-vector file of what a LoRA adds to the diffusion model of `base`.

    dtype: of the factors. A little of the base is read, for its hash. Text-encoder parts are left
    out and counted. Raises FormatError (another kind of adapter, half a pair, a task vector; the
    tensor is named), KeyMismatchError (no such weight in base), ShapeMismatchError,
    BaseMismatchError (nothing is added), NonFiniteError, ConfigError, OSError.
    """
    if dtype not in DTYPES:
        raise FormatError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    source, target = Path(lora), Path(out)
    check_not_source(target, (base, lora))
    header = read_header(source)
    if "tverase.kind" in header.metadata:
        raise FormatError(f"{source.name}: is a task vector already. Use it as it is.")
    modules, text = _modules(header.tensors, source.name)
    with CheckpointFile(base) as model:
        made = _converted(source, modules, model, DTYPES[dtype], progress)
        known = story or Provenance()
        identity = file_fingerprint(model, known.prediction or "epsilon")
        described, total = model.described(), len(model.sizes())
    content = write_compact(target, made, identity, known, list(made.ranks))
    progress(1, 1, "written")
    ranks = made.ranks.values()
    words = f"{source.name}: LoRA of {len(modules)} modules, ranks {min(ranks)} to {max(ranks)}"
    words += f"; {text} tensors of text encoders left out" * bool(text)
    counts = len(ranks), total - len(ranks)
    return Extraction(described, words, *counts, target.stat().st_size, content)


def _converted(
    source: Path,
    modules: Mapping[str, Mapping[str, str]],
    model: CheckpointFile,
    dtype: torch.dtype,
    progress: Progress,
) -> CompactTensors:
    """The factors under the names of a compact file; modules that add nothing are left out."""
    places = _module_keys(model.sizes())
    keys = {module: _key_of(module, places, source.name, model.name) for module in modules}
    _refuse_one_weight_twice(keys, source.name)
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    lost = whole = 0.0
    dense = 0
    with safe_open(source, "pt") as opened:
        for done, (module, key) in enumerate(sorted(keys.items(), key=lambda pair: pair[1])):
            progress(done, len(keys), f"reading {module}")
            read = {part: opened.get_tensor(name) for part, name in modules[module].items()}
            made = lora_factors(read, model.weights[key].shape, f"{source.name}: {module}")
            product = made.product()
            check_finite(product, f"{source.name}: the product of {module}")
            if not bool(product.any()):
                continue
            up, down = made.up.to(dtype), made.down.to(dtype)
            stem = key.removesuffix(WEIGHT)
            tensors |= {stem + UP: up.contiguous(), stem + DOWN: down.contiguous()}
            ranks[key] = down.shape[0]
            rounded = LoraFactors(up.float(), down.float()).product()
            lost += float((product - rounded).double().square().sum())
            whole += float(product.double().square().sum())
            dense += product.numel()
    if not tensors:
        raise BaseMismatchError(
            f"{source.name}: adds nothing to the diffusion model of {model.name}, so there is no "
            "task vector. Give a LoRA that was trained on the UNet."
        )
    written = sum(tensor.numel() for tensor in tensors.values())
    return CompactTensors(tensors, ranks, (lost / whole) ** 0.5, written / dense)


def lora_factors(
    parts: Mapping[str, Tensor], shape: tuple[int, ...], where: str = "lora"
) -> LoraFactors:
    """The two factors of a weight's delta, from a module's tensors `up`, `down`, `mid`, `alpha`.

    up [out, r, ...], down [r, in, ...]; mid [r, r, kh, kw] goes into down. alpha: one number, the
    rank if it is absent. shape: of the weight; factors of a 1x1 convolution may lack its last axes.
    Raises FormatError, ShapeMismatchError.
    """
    if not {"up", "down"} <= parts.keys():
        raise FormatError(f"{where}: has only {listed(list(parts))}; up and down belong together")
    up, down = parts["up"].float(), parts["down"].float()
    if min(len(shape), up.ndim, down.ndim) < 2 or math.prod(up.shape[2:]) != 1:
        raise FormatError(
            f"{where}: expected factors [out, r] or [out, r, 1, 1] and [r, in, ...] of a weight "
            f"[out, in, ...], got up {list(up.shape)} and down {list(down.shape)} of a weight of "
            f"shape {list(shape)}. Download the LoRA again, or give another."
        )
    fits = up.shape[1] == down.shape[0] > 0
    if fits and "mid" in parts:
        mid = parts["mid"].float()
        fits = mid.ndim == 4 and mid.shape[:2] == (down.shape[0], down.shape[0])
        fits = fits and math.prod(down.shape[2:]) == 1
        if fits:
            down = torch.einsum("mnkl,ni->mikl", mid, down.flatten(1))
    got = (up.shape[0], *down.shape[1:])
    short, long = sorted((got, tuple(shape)), key=len)
    if not fits or long[: len(short)] != short or any(n != 1 for n in long[len(short) :]):
        raise ShapeMismatchError(
            f"{where}: up {list(parts['up'].shape)} and down {list(parts['down'].shape)} do not "
            f"give a weight of shape {list(shape)}. The LoRA was made for another model.",
            where,
            shape,
            got,
        )
    if "alpha" in parts:
        if parts["alpha"].numel() != 1:
            raise FormatError(
                f"{where}: alpha holds {parts['alpha'].numel()} numbers; expected one"
            )
        up = up * (float(parts["alpha"]) / down.shape[0])
    ones = [1] * (len(shape) - 2)
    return LoraFactors(up.reshape(*up.shape[:2], *ones), down.reshape(down.shape[0], *shape[1:]))


def _modules(names: Iterable[str], file: str) -> tuple[dict[str, dict[str, str]], int]:
    """The names of the diffusion model's tensors by module and part; how many others there are."""
    modules: dict[str, dict[str, str]] = {}
    text = 0
    for name in names:
        if _TEXT.match(name):
            text += 1
            continue
        match = _PARTS.fullmatch(name)
        if match is None:
            why = next((w for p, w in _OTHER_KINDS if re.search(p, name)), "is no factor of a LoRA")
            raise FormatError(f"{file}: {name!r} {why}. {_ELSEWHERE}")
        part = match["side"] or _SIDES.get(match["letter"] or "", "alpha")
        held = modules.setdefault(match["module"], {})
        if part in held:
            raise FormatError(f"{file}: {held[part]!r} and {name!r} are the same factor")
        held[part] = name
    return modules, text


def _module_keys(keys: Iterable[str]) -> dict[str, str]:
    """Weight key by every name that a LoRA may have for the module."""
    own = [key for key in keys if key.startswith(DIFFUSION_PREFIX) and key.endswith(WEIGHT)]
    dotted = {key.removeprefix(DIFFUSION_PREFIX): key for key in own}
    places = {}
    for name, key in (*dotted.items(), *diffusers_names(own).items()):
        module = name.removesuffix(WEIGHT)
        places[module] = places["lora_unet_" + module.replace(".", "_")] = key
        places[module.removesuffix(".0") if module.endswith("to_out.0") else module] = key
    return places


def _key_of(module: str, places: Mapping[str, str], file: str, base: str) -> str:
    plain = module.removeprefix("base_model.model.").removeprefix("unet.")
    plain = plain.removeprefix(DIFFUSION_PREFIX).replace(".processor.", ".")
    plain = re.sub(r"^lycoris_", "lora_unet_", plain)
    if plain not in places:
        raise KeyMismatchError(
            f"{file}: {base} has no weight for the module {module!r}. Give the base that the LoRA "
            f"was made for. If this is it: {_ELSEWHERE[0].lower()}{_ELSEWHERE[1:]}",
            unexpected=[module],
        )
    return places[plain]


def _refuse_one_weight_twice(keys: Mapping[str, str], file: str) -> None:
    first: dict[str, str] = {}
    for module, key in keys.items():
        if key in first:
            raise FormatError(f"{file}: {first[key]!r} and {module!r} are both the weight {key}")
        first[key] = module
