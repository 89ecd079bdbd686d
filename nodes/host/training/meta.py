"""What stands in for layers on the meta device, where tensors have a size and no content."""

from __future__ import annotations

from functools import partial
from typing import Any

import comfy.ops
import torch

from ..network.frozen_weight import FrozenWeight, is_large
from ..network.layer_gradients import Held
from ..network.room import Added, Room


class WholeLayers(comfy.ops.disable_weight_init):
    """The host's layers. With dynamic memory management it makes those of its linear layers
    without weights, to take them from a checkpoint file later; here no file follows."""

    class Linear(comfy.ops.disable_weight_init.Linear):
        def __init__(self, *words: Any, **options: Any) -> None:
            torch.nn.Linear.__init__(self, *words, **options)


class _CountedAttention(torch.autograd.Function):
    """Keeps what PyTorch's fused attention keeps, and computes nothing."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any, rows: tuple[int, ...]) -> torch.Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out, q.new_empty(rows, dtype=torch.float32))
        return out


def counted_attention(
    function: Any,
    q: Any,
    k: Any,
    v: Any,
    heads: int,
    mask: Any = None,
    attn_precision: Any = None,
    skip_reshape: bool = False,
    skip_output_reshape: bool = False,
    **options: Any,
) -> Any:
    """Called as the host calls its own. q: [b, tokens, heads * width], or [b, heads, tokens, width]
    where there is no reshape left to do."""
    by_head = skip_reshape
    out = _CountedAttention.apply(q, k, v, (q.shape[0], heads, q.shape[-2]))
    if by_head and not skip_output_reshape:
        return out.transpose(1, 2).flatten(2)
    return out


def _evenly_routed(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """HiDream's choice among experts [b, tokens, width]: without values there is none to make, so
    each gets its share of the rows."""
    rows = x.flatten(0, -2).repeat_interleave(layer.num_activated_experts, 0)
    parts = rows.tensor_split(len(layer.experts))
    made = torch.cat([expert(part) for expert, part in zip(layer.experts, parts, strict=True)])
    _, shares, _ = layer.gate(x)
    joined = (made.view(*shares.shape, -1) * shares.unsqueeze(-1)).sum(1)
    return joined.view(x.shape) + layer.shared_experts(x)


def _positions(layer: Any, x: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Of the rotary embedding of Anima's text adapter, which asks for an autocast that the meta
    device does not know: cosines and sines [rows, tokens, width]."""
    shape = (*places.shape, 2 * len(layer.inv_freq))
    return x.new_empty(shape), x.new_empty(shape)


def without_content(network: torch.nn.Module) -> None:
    """Put those in that need no values."""
    for layer in network.modules():
        if hasattr(layer, "num_activated_experts"):
            layer.forward = partial(_evenly_routed, layer)
        if hasattr(layer, "inv_freq"):
            layer.forward = partial(_positions, layer)


def without_copy(layer: Any) -> None:
    """Let it compute as one whose weight stays, or learns by a dense delta: autograd keeps no large
    weight, and of a convolution that stays no input."""
    weight = layer.weight
    if weight.requires_grad and not is_large(weight):
        return
    del layer._parameters["weight"]
    added = [Added(weight, 1.0, Room())] if weight.requires_grad else []
    plain = weight.detach()
    layer.weight = FrozenWeight.of(plain, Held(lambda: plain, added), lambda: weight)
