"""Gradient checkpointing: blocks forget their activations and compute them again when needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from torch.utils.checkpoint import checkpoint

from ....tverase_core.model.layout import DIFFUSION_PREFIX
from ....tverase_core.model.layout_tables import DIT_BLOCK
from ..network.backward import differentiable

# The largest parts of which only one has to be unfolded at a time.
BLOCKS = (ResBlock, BasicTransformerBlock)


def blocks_of(network: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The blocks that are recomputed, by name; none within another. Of transformers these are the
    members of their stacks."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, BLOCKS) or _is_member(name)
    }


def _is_member(name: str) -> bool:
    match = DIT_BLOCK.fullmatch(f"{DIFFUSION_PREFIX}{name}.any")
    return match is not None and name == f"{match['stack']}.{match['number']}"


def stacks_of(network: torch.nn.Module) -> list[torch.nn.Module]:
    """The members of its lists of layers, none within another: a text encoder's blocks."""
    lists = [m for m in network.modules() if isinstance(m, torch.nn.ModuleList)]
    within = {inner for outer in lists for inner in outer.modules() if inner is not outer}
    return [block for stack in lists if stack not in within for block in stack]


def recomputed_blocks(network: torch.nn.Module) -> AbstractContextManager[None]:
    """While open, every block of the diffusion network is recomputed in the backward pass."""
    return recomputed(network, list(blocks_of(network).values()))


class _EachTime(ExitStack):
    """`differentiable`, anew at each entry: a second backward pass recomputes as well."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self._network = network

    def __enter__(self) -> _EachTime:
        self.enter_context(differentiable(self._network))
        return self


@contextmanager
def recomputed(network: torch.nn.Module, blocks: Sequence[torch.nn.Module]) -> Iterator[None]:
    """While open, these blocks of the network are recomputed in the backward pass.

    arXiv 1604.06174. The host's own `use_checkpoint` differentiates by module parameters, which
    are frozen here, so the modules' `forward` is covered instead, and uncovered by any way out.
    """

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _EachTime(network)

    before = {block: block.__dict__.get("forward") for block in blocks}
    try:
        for block in blocks:
            # Nothing in these blocks is random, so no random state has to be brought back.
            block.forward = partial(
                checkpoint,
                block.forward,
                use_reentrant=False,
                preserve_rng_state=False,
                context_fn=contexts,
            )
        yield
    finally:
        for block, own in before.items():
            block.__dict__.pop("forward", None)
            if own is not None:  # another pack's
                block.forward = own
