"""By what a LoRA's product is multiplied, where its tensors do not say.

An `.alpha` tensor gives alpha / rank. PEFT keeps alpha in `adapter_config.json` beside the file,
diffusers in the header (`lora_adapter_metadata`), where both may give it by module, and divide by
the square root of the rank (rank-stabilised, arXiv 2312.03732). Without any of these the factor
is 1.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import FormatError
from ...patterns import check_pattern
from .names import MERGE, plain_module

CONFIG = "adapter_config.json"
HEADER = "lora_adapter_metadata"
_PREFIXES = ("unet.", "transformer.")
# Starts from which the base is as it was: the first product is zero. Others move the base too.
_STARTS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")
# Settings under which a file's factors alone are not the change.
_OTHER_MEANING = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "kasa_config",
    "monteclora_config",
    "arrow_config",
    "alora_invocation_tokens",
    "layer_replication",
    "target_parameters",
    "fan_in_fan_out",
)


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """alpha and rank by module, as PEFT states them. place: where it was read, for people."""

    place: str
    rank: int
    alpha: float
    stabilised: bool = False
    ranks: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)

    def factor(self, module: str, rank: int) -> float:
        """alpha / rank, or alpha / sqrt(rank). rank: of the tensors. Raises FormatError where
        the settings state another rank: then they belong to another file."""
        name = plain_module(module)
        stated = _by_pattern(self.ranks, name, self.rank)
        if stated != rank:
            raise FormatError(
                f"{self.place}: states rank {stated} for {module!r}, whose tensors have rank "
                f"{rank}: it belongs to another LoRA. Give the file with its own {CONFIG}."
            )
        alpha: float = _by_pattern(self.alphas, name, self.alpha)
        return alpha / (math.sqrt(rank) if self.stabilised else rank)


def lora_settings(path: str | os.PathLike[str], metadata: Mapping[str, str]) -> LoraSettings | None:
    """What the file's header says, else the configuration beside it; None without either.

    Raises FormatError for settings that cannot be read, or under which the factors are not the
    whole change.
    """
    file = Path(path)
    if HEADER in metadata:
        place = f"{file.name} ({HEADER})"
        given = _own_part(_json(metadata[HEADER], place))
        return _settings(given, place) if given else None
    config = file.with_name(CONFIG)
    if not config.is_file() or not _is_beside(file):
        return None
    return _settings(_json(_text(config), CONFIG), CONFIG)


def _is_beside(file: Path) -> bool:
    """PEFT's own name, or a folder with no other file that the configuration could be of."""
    if file.name.startswith("adapter_model"):
        return True
    return [each.name for each in file.parent.glob("*.safetensors")] == [file.name]


def _own_part(given: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the diffusion model, its names without prefix; empty if there is none."""
    for prefix in _PREFIXES:
        own = {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}
        if own:
            return own
    return dict(given) if "r" in given else {}


def _settings(given: Mapping[str, Any], place: str) -> LoraSettings:
    kind = str(given.get("peft_type", "LORA")).upper().rpartition(".")[2]
    if kind != "LORA":
        raise FormatError(f"{place}: is of a {kind} adapter, which is not read here. {MERGE}")
    start = given.get("init_lora_weights")
    if start not in _STARTS:
        raise FormatError(
            f"{place}: the adapter began with {start!r}, which moves the base's weights too, so "
            f"its factors are not the whole change. {MERGE}"
        )
    for name in _OTHER_MEANING:
        if given.get(name):
            raise FormatError(
                f"{place}: {name} is set, so the factors alone are not the change. {MERGE}"
            )
    try:
        return LoraSettings(
            place,
            _whole(given["r"]),
            _number(given.get("lora_alpha", given["r"])),
            bool(given.get("use_rslora", False)),
            {_pattern(k): _whole(v) for k, v in (given.get("rank_pattern") or {}).items()},
            {_pattern(k): _number(v) for k, v in (given.get("alpha_pattern") or {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FormatError(
            f"{place}: expected r, lora_alpha and patterns of an adapter ({error!r}). "
            "Download or save the LoRA again."
        ) from error


def _by_pattern(values: Mapping[str, Any], module: str, otherwise: Any) -> Any:
    """PEFT's rule (peft/utils/other.py, get_pattern_key): the first pattern that ends the name."""
    return next(
        (v for k, v in values.items() if re.match(rf"(?:.*\.)?(?:{k})$", module)), otherwise
    )


def _pattern(text: str) -> str:
    try:
        check_pattern(text)
    except ValueError as error:
        raise ValueError(f"the pattern {text!r} {error}") from error
    return text


def _whole(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise TypeError(f"expected a rank, got {value!r}")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path.name}: is no text. Download it again.") from error


def _json(text: str, place: str) -> Mapping[str, Any]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{place}: is not valid JSON. Download or save it again.") from error
    if not isinstance(given, dict):
        raise FormatError(f"{place}: expected settings by name. Download or save it again.")
    return given
