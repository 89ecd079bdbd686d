"""Diffusers' names of a UNet's weights and ComfyUI's, for SD1, SD2 and SDXL of any depth."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..errors import FormatError
from ..model.layout import DIFFUSION_PREFIX

_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "class_embedding.linear_1": "label_emb.0.0",
    "class_embedding.linear_2": "label_emb.0.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_PART = re.compile(
    r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"
)
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")
_SIDES = {"input": "down_blocks", "output": "up_blocks"}
_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.\d+\.(.+)")
_MIDDLE_BLOCK = re.compile(r"middle_block\.(\d+)\.(.+)")
_SAMPLERS = {"op": "downsamplers.0.conv", "conv": "upsamplers.0.conv"}


def is_diffusers_unet(names: Iterable[str]) -> bool:
    """Do the names speak of a UNet in diffusers' way?"""
    return any(name.startswith(("down_blocks.", "mid_block.", "up_blocks.")) for name in names)


def is_whole_unet(names: Iterable[str]) -> bool:
    """Does it have its first layer, and the resnet of every block, by which layers are counted?"""
    held = set(names)
    places = [match for match in map(_PART.fullmatch, held) if match]
    resnets = {(m[1], m[2], m[4]) for m in places if m[3] == "resnets"}
    attended = {(m[1], m[2], m[4]) for m in places if m[3] == "attentions"}
    return "conv_in.weight" in held and attended <= resnets


def comfyui_keys(names: Iterable[str], file: str) -> dict[str, str]:
    """ComfyUI's weight key by diffusers' name. The number of layers is read from the names.

    Raises FormatError for a name that no SD UNet has.
    """
    listed = list(names)
    matches = [match for match in map(_PART.fullmatch, listed) if match]
    resnets = {(m[1], int(m[2]), int(m[4])) for m in matches if m[3] == "resnets"}
    attended = {(m[1], int(m[2]), int(m[4])) for m in matches if m[3] == "attentions"}
    keys = {}
    for name in listed:
        place = _place(name, resnets, attended)
        if place is None:
            raise FormatError(
                f"{file}: {name!r} is no weight of an SD1, SD2 or SDXL UNet of diffusers. "
                "Use the single-file checkpoint of this model instead."
            )
        keys[name] = DIFFUSION_PREFIX + place
    return keys


def diffusers_names(keys: Iterable[str]) -> dict[str, str]:
    """ComfyUI's weight key by diffusers' name, for all weights of a UNet; what has no name in
    diffusers' way, as with other models, is left out."""
    places = {key.removeprefix(DIFFUSION_PREFIX): key for key in keys}
    blocks = [match for match in map(_BLOCK.fullmatch, places) if match]
    # A level ends in the block that changes the size.
    ends = {
        side: sorted({int(m[2]) for m in blocks if m[1] == side and _first(m[3]) in _SAMPLERS})
        for side in _SIDES
    }
    outside = {inner: name for name, inner in reversed(_OUTSIDE.items())}  # the first counts
    names = {}
    for place, key in places.items():
        module, _, leaf = place.rpartition(".")
        name = f"{outside[module]}.{leaf}" if module in outside else _diffusers_name(place, ends)
        if name is not None:
            names[name] = key
    return names


def _diffusers_name(place: str, ends: Mapping[str, list[int]]) -> str | None:
    middle = _MIDDLE_BLOCK.fullmatch(place)
    if middle:
        if middle[1] == "1":
            return f"mid_block.attentions.0.{middle[2]}"
        return _diffusers_resnet(f"mid_block.resnets.{int(middle[1]) // 2}", middle[2])
    match = _BLOCK.fullmatch(place)
    if match is None:
        return None
    side, block, rest = match[1], int(match[2]), match[3]
    before = [end for end in ends[side] if end < block]
    first = before[-1] + 1 if before else int(side == "input")
    stem, number = f"{_SIDES[side]}.{len(before)}", block - first
    if _first(rest) in _SAMPLERS:
        return f"{stem}.{_SAMPLERS[_first(rest)]}.{rest.rpartition('.')[2]}"
    resnet = _diffusers_resnet(f"{stem}.resnets.{number}", rest)
    return resnet or f"{stem}.attentions.{number}.{rest}"


def _diffusers_resnet(stem: str, rest: str) -> str | None:
    module, _, leaf = rest.rpartition(".")
    found = next((name for name, inner in _RESNET.items() if inner == module), None)
    return f"{stem}.{found}.{leaf}" if found else None


def _first(rest: str) -> str:
    return rest.partition(".")[0]


def _place(
    name: str, resnets: set[tuple[str, int, int]], attended: set[tuple[str, int, int]]
) -> str | None:
    module, _, leaf = name.rpartition(".")
    if module in _OUTSIDE:
        return f"{_OUTSIDE[module]}.{leaf}"
    middle = _MIDDLE.fullmatch(name)
    if middle:
        if middle[1] == "attentions":
            return f"middle_block.1.{middle[3]}"
        return _resnet(f"middle_block.{2 * int(middle[2])}", middle[3])
    match = _PART.fullmatch(name)
    if match is None:
        return None
    side, level, part, number, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    before = sum(1 for s, x, _ in resnets if s == side and x < level)
    layers = sum(1 for s, x, _ in resnets if s == side and x == level)
    # The input blocks begin with the first convolution and every level ends in a downsampler.
    start = 1 + before + level if side == "down" else before
    stem = "input_blocks" if side == "down" else "output_blocks"
    if part == "resnets":
        return _resnet(f"{stem}.{start + number}.0", rest)
    if part == "attentions":
        return f"{stem}.{start + number}.1.{rest}"
    if part == "downsamplers":
        return f"{stem}.{start + layers}.0.op.{rest.removeprefix('conv.')}"
    last = 2 if (side, level, layers - 1) in attended else 1
    return f"{stem}.{start + layers - 1}.{last}.{rest}"


def _resnet(block: str, rest: str) -> str | None:
    module, _, leaf = rest.rpartition(".")
    return f"{block}.{_RESNET[module]}.{leaf}" if module in _RESNET else None
