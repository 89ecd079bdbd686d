"""Which block and which kind of layer a weight belongs to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ..errors import UnknownKeyError
from .layout_tables import (
    CLIP_PARTS,
    CLIP_TOWER,
    DIT_BLOCK,
    DIT_ENDS,
    DIT_KINDS,
    DIT_STACKS,
    KINDS,
    UNET_BLOCKS,
    UNET_CONTEXT,
    UNET_KINDS,
)

__all__ = ["DIFFUSION_PREFIX", "KINDS", "TEXT_PREFIX", "ModelLayout", "detect_layout"]

DIFFUSION_PREFIX = "diffusion_model."
TEXT_PREFIX = "text_encoders."
_GROUPS = ("TIME", "IN", "M", "OUT", "FINAL")


@dataclass(frozen=True, slots=True)
class ModelLayout:
    """Places every weight name of one model.

    name: "sd-unet" (SD1, SD2, SDXL and UNets of that family, of any size), "dit" (diffusion
    transformers such as SD3, Flux, Wan: blocks carry their own module paths, kinds are known) or
    "generic" (any other architecture: module paths, and every kind is "other").
    names: the model's blocks in the order of the data flow, as `detect_layout` found them.
    """

    name: Literal["sd-unet", "dit", "generic"]
    names: tuple[str, ...] = ()

    def locate(self, key: str) -> tuple[str, str]:
        """key -> (block, kind). Raises UnknownKeyError for a name this layout cannot place."""
        found = _locate_clip(key)
        if found is None:
            found = _PLACES[self.name](key)
        if found is None:
            raise UnknownKeyError(
                f"layout {self.name}: cannot place the weight {key!r}. Expected a name such as "
                f"'{DIFFUSION_PREFIX}input_blocks.1.0.in_layers.0.weight' or "
                f"'{TEXT_PREFIX}clip_l...'. Was the layout detected from this model?"
            )
        return found

    def block(self, key: str) -> str:
        return self.locate(key)[0]

    def kind(self, key: str) -> str:
        return self.locate(key)[1]

    def reads_context(self, key: str) -> bool:
        """Is it a cross-attention key or value matrix [out, d], applied to the prompt's context?"""
        return self.name == "sd-unet" and UNET_CONTEXT.fullmatch(key) is not None

    def blocks(self) -> tuple[str, ...]:
        """The model's block names, ordered."""
        return self.names

    def block_names(self, keys: Iterable[str]) -> tuple[str, ...]:
        """The blocks that the given weights lie in, in the order of the data flow, TE last."""
        return tuple(sorted({self.block(key) for key in keys}, key=_rank))


def detect_layout(keys: Iterable[str]) -> ModelLayout:
    """The layout that places all the given weights, with the blocks found among them.

    Falls back to "generic" as soon as one diffusion weight does not fit a family's tables: half
    a layout would mislead. Raises UnknownKeyError when a name has no known prefix.
    """
    listed = list(keys)
    layout = ModelLayout(_family(listed))
    return ModelLayout(layout.name, layout.block_names(listed))


def _family(keys: list[str]) -> Literal["sd-unet", "dit", "generic"]:
    if all(_locate_clip(key) or _locate_unet(key) for key in keys):
        return "sd-unet"
    if any(DIT_BLOCK.fullmatch(key) for key in keys) and all(
        _locate_clip(key) or _locate_dit(key) for key in keys
    ):
        return "dit"
    return "generic"


def _locate_unet(key: str) -> tuple[str, str] | None:
    for pattern, block in UNET_BLOCKS:
        match = pattern.fullmatch(key)
        if match:
            number, rest = match.groups()
            for kind_pattern, kind in UNET_KINDS:
                if kind_pattern.fullmatch(rest):
                    return block.format(int(number or 0)), kind
    return None


def _locate_dit(key: str) -> tuple[str, str] | None:
    """The stack and its number, or else the first module."""
    if key.startswith(TEXT_PREFIX):
        return _locate_generic(key)
    path = key.removeprefix(DIFFUSION_PREFIX)
    kind = next((kind for pattern, kind in DIT_KINDS if pattern.search(path)), None)
    if path == key or kind is None:
        return None
    match = DIT_BLOCK.fullmatch(key)
    return f"{match['stack']}.{match['number']}" if match else path.partition(".")[0], kind


def _locate_clip(key: str) -> tuple[str, str] | None:
    tower = CLIP_TOWER.fullmatch(key)
    if tower is None:
        return None
    for pattern, block, kind in CLIP_PARTS:
        match = pattern.fullmatch(tower[2])
        if match:
            numbered = block.format(int(match[1] or 0))
            joint = "" if numbered.isdigit() else "_"
            return f"TE_{tower[1].upper()}{joint}{numbered}", kind
    return None


def _locate_generic(key: str) -> tuple[str, str] | None:
    """The module path up to its first number, or else the first module."""
    if key.startswith(DIFFUSION_PREFIX):
        kept, path = "", key.removeprefix(DIFFUSION_PREFIX)
    elif key.startswith(TEXT_PREFIX):
        kept, path = TEXT_PREFIX, key.removeprefix(TEXT_PREFIX)
    else:
        return None
    parts = path.split(".")
    if not all(parts):
        return None
    number = next((i for i, part in enumerate(parts) if part.isdigit()), 0)
    return kept + ".".join(parts[: number + 1]), "other"


_PLACES: dict[str, Callable[[str], tuple[str, str] | None]] = {
    "sd-unet": _locate_unet,
    "dit": _locate_dit,
    "generic": _locate_generic,
}


def _rank(block: str) -> tuple[int, list[tuple[int, int, str]]]:
    """Sort key: data-flow order, numbers by value, text encoders last.

    UNet groups, then the modules before a transformer's stacks, the stacks, the ends, the text.
    """
    pieces = re.findall(r"\d+|\D+", block)
    order = [(1, int(p), "") if p.isdigit() else (0, 0, p) for p in pieces]
    if block.startswith(("TE_", TEXT_PREFIX)):
        return len(_GROUPS) + len(DIT_STACKS) + 2, order
    head = re.match(r"[A-Z]+(?=\d*$)", block)
    if head and head[0] in _GROUPS:
        return _GROUPS.index(head[0]), order
    stack, _, number = block.rpartition(".")
    if number.isdigit() and stack in DIT_STACKS:
        return len(_GROUPS) + 1 + DIT_STACKS.index(stack), order
    if block in DIT_ENDS:
        return len(_GROUPS) + len(DIT_STACKS) + 1, [(DIT_ENDS.index(block), 0, "")]
    return len(_GROUPS), order
