"""What is done with a vector: applied, drawn with, saved, loaded, exported."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..world import Stages, World


def stages(world: World) -> Stages:
    """By name."""
    saving = world.saving
    return {
        "apply, patches, draw": lambda: world.predicted(world.applied("patch")),
        "apply, runtime exact, draw": lambda: world.predicted(world.applied("runtime_exact")),
        "save": lambda: _file(world, **saving("saved")),
        "save compact": lambda: _file(world, **saving("compact"), max_error=0.1),
        "load": lambda: world.node("LoadTaskVector", file=world.written.name)[0],
        "export UNet": lambda: _exported(world),
        "apply to CLIP": lambda: _clip_applied(world),
    }


def _file(world: World, **inputs: Any) -> dict[str, Tensor]:
    """Tensors of the file that is saved, which is gone afterwards."""
    from tverase_core.files.task_vector_file import load_task_vector

    path = world.output / world.node("SaveTaskVector", **inputs)[0]
    try:
        return dict(load_task_vector(path).deltas)
    finally:
        path.unlink()


def _exported(world: World) -> bytes:
    from tverase_pack.nodes.host.model.export import export_unet

    with torch.inference_mode():
        path = export_unet(world.applied("patch"), "unet")
    try:
        return path.read_bytes()
    finally:
        path.unlink()


def _clip_applied(world: World) -> Tensor:
    given = {"task_vector": world.clip_vector, "strength": 1.0}
    erased = world.node("ApplyToCLIP", clip=world.clip, **given)[0]
    with torch.inference_mode():
        found: Tensor = erased.encode_from_tokens(erased.tokenize("a cat"))
    return found
