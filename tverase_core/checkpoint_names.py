"""Diffusers' names of a UNet's weights -> ComfyUI's, for SD1, SD2 and SDXL of any depth."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .errors import FormatError
from .layout import DIFFUSION_PREFIX

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


def is_diffusers_unet(names: Iterable[str]) -> bool:
    """Do the names speak of a UNet in diffusers' way?"""
    return any(name.startswith(("down_blocks.", "mid_block.", "up_blocks.")) for name in names)


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
