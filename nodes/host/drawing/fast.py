"""Drawing in bfloat16 where nobody compares the pictures: they are learned from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from ..model.numerics import compute_dtype
from ..model.patching import let_go

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


@contextmanager
def fast_to_draw(model: ModelPatcher) -> Iterator[ModelPatcher]:
    """The MODEL itself, or on a CPU that is fast in bfloat16 (`compute_dtype`) a clone with its
    patches that computes in it, unloaded again at the end; the weights stay as they are."""
    quick = model.load_device.type == "cpu" and compute_dtype(model, fast=True) == torch.bfloat16
    if not quick or not hasattr(model, "set_model_compute_dtype"):
        yield model
        return
    clone = model.clone()
    clone.set_model_compute_dtype(torch.bfloat16)
    try:
        yield clone
    finally:
        let_go(clone)
