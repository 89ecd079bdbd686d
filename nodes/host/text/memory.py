"""Memory that learning vectors in a CLIP needs, reckoned before it begins."""

from __future__ import annotations

from typing import Any

import torch

from ..training.recompute import stacks_of
from .splice import marked_rows
from .towers import towers_of

FLOAT32 = 4  # bytes; the host computes texts in it, whatever it holds the weights in
KEPT_EACH = 2  # tensors of a layer's width that autograd keeps of each layer: its input and output


def gradient_bytes(clip: Any, template: str, vectors: int, count: int) -> int:
    """Bytes that gradients through `count` prompts at once need beside the weights.

    Raises as `splice.marked_rows`, before anything is loaded.
    """
    towers = towers_of(clip)
    rows = marked_rows(clip, towers, template, vectors)
    total = 0
    for tower in towers:
        part = tower.of(clip.cond_stage_model)
        width = tower.table(clip.cond_stage_model).weight.shape[1]
        tokens = count * len(rows[tower.place][0])
        each = [_block_bytes(block, tokens) for block in _encoders(part)]
        if tower.is_clip:
            total += sum(each)
        elif each:  # what enters each block, and one block unfolded
            total += len(each) * tokens * width * FLOAT32 + max(each)
    return total


def held_bytes(clip: Any) -> int:
    """Bytes of the text encoder's weights as the host holds them."""
    return int(clip.patcher.model_size())


def _encoders(part: torch.nn.Module) -> list[torch.nn.Module]:
    """The blocks that texts go through, not those of an eye."""
    eye = getattr(part.transformer, "visual", None)
    seen = set() if eye is None else set(eye.modules())
    return [block for block in stacks_of(part) if block not in seen]


def _block_bytes(block: torch.nn.Module, tokens: int) -> int:
    """What autograd keeps of a block: its weights, cast, and what its layers give."""
    weights = [p for p in block.parameters() if p.ndim > 1]
    cast = sum(p.numel() for p in weights)
    return FLOAT32 * (cast + KEPT_EACH * tokens * sum(sum(p.shape) for p in weights))
