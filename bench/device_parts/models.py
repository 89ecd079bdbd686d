"""MODELs of random weights on ComfyUI's device, in a real family's size or tiny."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import torch
from tverase_pack.tverase_core.concept_set import ConceptSet, concept_set
from tverase_pack.tverase_core.ports import Context

from bench.size_parts.big_model import build
from host_support import tiny_flow, tiny_host

from .place import Place

# Of each family: shape of one latent, of one text, the name and width of what stands beside it.
FULL: dict[str, tuple[tuple[int, ...], tuple[int, int], dict[str, int]]] = {
    "sd15": ((4, 64, 64), (77, 768), {}),
    "sdxl": ((4, 128, 128), (77, 2048), {"pooled_output": 1280}),
    "sd3_medium": ((16, 128, 128), (154, 4096), {"pooled_output": 2048}),
}
TINY: dict[str, tuple[tuple[int, ...], tuple[int, int], dict[str, int]]] = {
    "sd15": ((4, 8, 8), (77, tiny_host.WIDTH), {}),
    "sdxl": ((4, 8, 8), (77, tiny_host.WIDTH), {"pooled_output": 1280}),
    "sd3_medium": ((16, 8, 8), (7, tiny_flow.TEXT), {"pooled_output": 40}),
}


def model_of(place: Place, family: str) -> Any:
    """Stored in float16; computes in it on a GPU, in float32 on a CPU."""
    if not place.tiny:
        compute = torch.float32 if place.device.type == "cpu" else torch.float16
        made = build(family, torch.float16, compute)
    elif family == "sd3_medium":
        made = tiny_flow.build("sd3", torch.float16)
    else:
        made = tiny_host.build_model() if family == "sd15" else tiny_host.build_sdxl()
    return on_device(place, made)


def on_device(place: Place, model: Any) -> Any:
    """The MODEL, loaded where the host would load it."""
    kind = comfy.model_patcher.ModelPatcher
    return kind(model.model, load_device=place.device, offload_device=torch.device("cpu"))


def pictures_of(place: Place, family: str, count: int) -> ConceptSet:
    """Noise, under texts of noise."""
    latent, text, extra = (TINY if place.tiny else FULL)[family]
    source = torch.Generator().manual_seed(5)
    draw = {name: torch.randn((1, width), generator=source) for name, width in extra.items()}
    context = Context(torch.randn((1, *text), generator=source), draw)
    return concept_set("noise", torch.randn((count, *latent), generator=source), context)
