"""What a fine-tune needs in memory, counted before it begins (our own count)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from .config import FinetuneConfig
from .low_rank import factor_shapes

GIB = 1024**3
_MOMENT_BYTES = {"adamw": 8, "adamw8bit": 2}


@dataclass(frozen=True, slots=True)
class Activations:
    """Bytes that autograd keeps of one forward pass, the weights that it keeps among them.

    whole: without recomputation. outline: with it, the inputs of the blocks and what lies between
    them. largest_block: what one block adds while it is recomputed.
    """

    whole: int
    outline: int
    largest_block: int

    def kept(self, recompute: bool) -> int:
        """The most that is there at once."""
        return self.outline + self.largest_block if recompute else self.whole


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes beyond the model's own weights.

    device: the peak where the model computes. average, result: what lies in main memory beside
    that, the result once the rest is gone. parts: what the peak is made of, by name.
    """

    device: int
    average: int
    result: int
    parts: Mapping[str, int]
    recompute: bool
    fused: bool = False

    @property
    def host(self) -> int:
        """Main memory that training on a GPU needs."""
        return self.average + self.result

    def on(self, device: torch.device) -> int:
        """The peak in the memory of that device; a CPU's is the main memory."""
        if device.type != "cpu":
            return self.device
        return self.average + max(self.device, self.result)

    def sentence(self) -> str:
        """The estimate in words."""
        parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in self.parts.items() if size)
        return f"{self.device / GIB:.2f} GiB beyond the model ({parts})"


def memory_plan(
    shapes: Mapping[str, Sequence[int]],
    config: FinetuneConfig,
    activations: Activations,
    recompute: bool,
    gradients_stay: bool = False,
    fused: bool = False,
) -> MemoryPlan:
    """Count a fine-tune of the weights that `config` allows, of these shapes by key.

    activations: of one part of a batch. What is learned, its gradient and the average are
    float32, AdamW keeps two moments (one byte each in its 8-bit form). The pass that counts is
    one of the second step or later, when the moments exist; a run of one step meets them after
    the pass. With one part a step, gradients take the place of what autograd lets go, unless their
    memory is kept from step to step. fused: one gradient at a time, and what the optimizer makes
    of it (movers.py).
    """
    trained = {k: tuple(s) for k, s in shapes.items() if config.allows(k, len(s))}
    dense = sum(math.prod(shape) for shape in trained.values())
    largest = max((math.prod(shape) for shape in trained.values()), default=0)
    values = dense
    if config.rank:
        values = sum(
            math.prod(factor)
            for shape in trained.values()
            for factor in factor_shapes(shape, config.rank)
        )
    moments = _MOMENT_BYTES[config.optimizer] * values
    graph = activations.kept(recompute)
    gradients = 4 * values
    # A weight in float32, its delta, and their sum or gradient.
    workspace = 12 * largest
    if fused:
        workspace += 12 * largest  # of AdamW that is not torch's own fused one: two more
        running = graph
    elif config.accumulation > 1 or gradients_stay:
        running = gradients + graph
    else:
        running = max(graph, gradients + (activations.largest_block if recompute else 0))
    later = config.steps > 1 or fused
    busiest = moments + running if later else max(running, gradients + moments)
    parts = {
        "learned": 4 * values,
        "moments": min(moments, busiest),
        "gradients and activations": busiest - min(moments, busiest),
        "workspace": workspace,
    }
    device = sum(parts.values())
    average = 4 * values if config.ema else 0
    # The dense average is itself the result; factors are multiplied out at the end.
    result = 4 * dense if config.rank or not config.ema else 0
    return MemoryPlan(device, average, result, parts, recompute, fused)
