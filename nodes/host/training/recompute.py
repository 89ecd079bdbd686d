"""Gradient checkpointing: blocks forget their activations and compute them again when needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import torch
from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from torch.utils.checkpoint import checkpoint

# The largest parts of which only one has to be unfolded at a time.
BLOCKS = (ResBlock, BasicTransformerBlock)


def blocks_of(network: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The blocks that are recomputed, by name; none within another."""
    return {name: m for name, m in network.named_modules() if isinstance(m, BLOCKS)}


@contextmanager
def recomputed_blocks(network: torch.nn.Module) -> Iterator[None]:
    """While open, every block of the network is recomputed in the backward pass.

    arXiv 1604.06174. The host's own `use_checkpoint` differentiates by module parameters, which
    are frozen here, so the modules' `forward` is covered instead, and uncovered by any way out.
    """
    blocks = list(blocks_of(network).values())
    try:
        for block in blocks:
            # Nothing in these blocks is random, so no random state has to be brought back.
            block.forward = partial(
                checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False
            )
        yield
    finally:
        for block in blocks:
            with suppress(AttributeError):
                del block.forward
