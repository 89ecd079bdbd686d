"""What the published scripts of UCE and ESD write: the edited weights alone, diffusers' names.

Neither is on a package index. Their last step is a call of safetensors' save_file with a dict of
`named_modules` names; that step is done here, on weights that were moved as theirs are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from bench.format_parts.case import Case, difference, note
from bench.format_parts.tiny_unet import unet, weights

UCE = "UCE's script of 2024 (its saving step)"
ESD = "ESD's script of 2025 (its saving step)"


def make(work: Path) -> None:
    strict = ("attn2.to_k", "attn2.to_v")
    _one(work, "uce", "UCE, SD 1.5", UCE, "sd15", lambda name: name.endswith(strict))
    _one(work, "uce_xl", "UCE, SDXL", UCE, "sdxl", lambda name: name.endswith(strict))
    _one(work, "esd_x", "ESD-x, SD 1.5", ESD, "sd15", lambda name: "attn2" in name)
    _one(work, "esd_u", "ESD-u, SD 1.5", ESD, "sd15", lambda name: "attn2" not in name)
    _one(work, "esd_xl", "ESD-x-strict, SDXL", ESD, "sdxl", lambda name: name.endswith(strict))


def _one(
    work: Path, place: str, name: str, tool: str, family: str, edited: Callable[[str], Any]
) -> None:
    model = unet(family)
    base = weights(model)
    saved = {}
    source = torch.Generator().manual_seed(3)
    for module_name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and edited(module_name):
            for leaf, parameter in module.named_parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=source)
                saved[f"{module_name}.{leaf}"] = parameter
    file = work / f"{place}.safetensors"
    save_file(saved, file)
    model.save_pretrained(work / f"{place}_merged")
    case = Case(
        name=name,
        tool=tool,
        base=f"{family}.safetensors",
        tuned=file.name,
        expected=f"{place}.expected.safetensors",
        merged=f"{place}_merged",
        edited_only=True,
    )
    note(work, case, difference(saved, base))
