"""What number formats leave of an edit on this device: as patches, and while a delta is learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.model_management
import torch
from torch import Tensor
from tverase_pack.nodes.host.model.denoiser import open_denoiser
from tverase_pack.nodes.host.model.patching import measure_rounding, patched_clone
from tverase_pack.tverase_core.vector.rounding import Comparison

from bench.quantised import plain_model, used, vector_of

from .models import on_device
from .place import Place

STORAGES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def patches(place: Place) -> dict[str, Any]:
    """How much of an edit of 1 % of each weight the host's patches lose, and how much the pack
    says that they will. Newer hosts add patches in float16 where the device is fast at it."""
    figures: dict[str, Any] = {}
    for name, storage in STORAGES.items():
        model = _small(place, storage)
        deltas = vector_of(model).deltas
        before = used(model)
        after = used(patched_clone(model, {-1.0: deltas}))
        found = Comparison()
        for key, delta in deltas.items():
            found.add(-delta, (after[key] - before[key]).cpu())
        told = measure_rounding(model, {-1.0: deltas}).lost
        figures[f"{name}_lost"] = {"value": found.loss().lost}
        figures[f"{name}_told_error"] = {
            "value": abs(told - found.loss().lost),
            "target": "<= 0.02",
        }
    known = getattr(comfy.model_management, "lora_compute_dtype", None)
    half = known is not None and known(place.device) == torch.float16
    return {**figures, "added_in_float16": {"value": float(half)}}


def dead_zone(place: Place) -> dict[str, Any]:
    """Of deltas below a bfloat16 step, how much acts where the host computes in bfloat16.

    1 is all of it, on average over the weights. The stored weights are float16: an eighth of them
    lies half way between two bfloat16 values, and the least delta decides, hence more than 1 for
    the smallest. `plain`: the weight in bfloat16 plus the delta.
    """
    model = _small(place, torch.float16)
    figures: dict[str, Any] = {}
    with open_denoiser(model) as denoiser, torch.no_grad():
        for share in (1e-4, 1e-3, 1e-2):
            deltas = vector_of(model, share=share).deltas
            with denoiser.attached(deltas) as attachment:
                attachment.scale = 0.0
                before = used(denoiser.patcher, torch.bfloat16)
                attachment.scale = 1.0
                after = used(denoiser.patcher, torch.bfloat16)
            plain = {
                k: (before[k].bfloat16() + d.to(before[k]).bfloat16()).float()
                for k, d in deltas.items()
            }
            figures[f"acts_{share:g}"] = {
                "value": _gain(deltas, before, after),
                "target": ">= 0.9",
                "n": len(deltas),
            }
            figures[f"plain_{share:g}"] = {"value": _gain(deltas, before, plain)}
    return figures


def _small(place: Place, storage: torch.dtype) -> Any:
    """13 million weights, or tiny."""
    width = {"width": 32, "context": 64} if place.tiny else {}
    return on_device(place, plain_model(storage=storage, **width))


def _gain(
    meant: Mapping[str, Tensor], before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> float:
    """<meant, real> / <meant, meant> over all weights."""
    both = whole = 0.0
    for key, delta in meant.items():
        real = (after[key] - before[key]).cpu().double()
        both += float((delta.double() * real).sum())
        whole += float(delta.double().square().sum())
    return both / whole
