"""Memory of training and of gradients, estimated by a dry run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import comfy.ops
import torch

from ....tverase_core.concept_set import ConceptSet
from ....tverase_core.finetuning.memory_plan import Activations
from ....tverase_core.ports import TOKENS, Context
from ..model.conditioning import network_inputs
from ..model.numerics import compute_dtype
from ..network.backward import differentiable
from ..network.latents import with_time
from .recompute import blocks_of

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

BETWEEN = ""  # name for what lies outside the blocks


class _WholeLayers(comfy.ops.disable_weight_init):
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


def _attention(
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


class _Ledger:
    """Bytes of every storage that autograd keeps, by the block that kept it first."""

    def __init__(self) -> None:
        self.block = BETWEEN
        self.bytes: dict[str, int] = {BETWEEN: 0}
        self.inputs: dict[int, int] = {}
        self._seen: set[int] = set()

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """What autograd shall hold for it: an alias, since an operation that keeps its own output
        would hold itself for ever."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:  # its address: a meta tensor has no data pointer
            self._seen.add(storage._cdata)
            self.bytes[self.block] = self.bytes.get(self.block, 0) + storage.nbytes()
        return tensor.detach()

    def watch(self, name: str, block: torch.nn.Module) -> None:
        def enter(_: Any, words: tuple[Any, ...], options: dict[str, Any]) -> None:
            for value in (*words, *options.values()):
                if isinstance(value, torch.Tensor) and value.requires_grad:
                    storage = value.untyped_storage()
                    self.inputs[storage._cdata] = storage.nbytes()
            self.block = name

        def leave(*_: Any) -> None:
            self.block = BETWEEN

        block.register_forward_pre_hook(enter, with_kwargs=True)
        block.register_forward_hook(leave)


def activations(
    model: ModelPatcher,
    shape: tuple[int, int, int, int],
    trained: Callable[[str], bool],
    text: Context,
    dtype: torch.dtype | None = None,
) -> Activations:
    """What autograd keeps of one forward pass of latents [b, c, h, w].

    The model's own network is built anew on the meta device, where tensors have a size and no
    content, and run once with the trained weights asking for gradients. trained: by weight key.
    text: one of its longest rows stands for all. dtype: what is computed in, where not what the
    model's device computes in. A ComfyUI without `optimized_attention_override` (0.3.52) counts
    attention scores that the real pass does not keep: there the estimate is high.
    """
    config = dict(model.model.model_config.unet_config)
    dtype = dtype or compute_dtype(model)
    meta = {"device": "meta", "dtype": dtype}
    kind = type(model.model.diffusion_model)
    with torch.inference_mode(False), torch.enable_grad():
        network = kind(**{**config, **meta}, operations=_WholeLayers)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(trained(f"diffusion_model.{name}"))
        for layer in network.modules():
            if hasattr(layer, "num_activated_experts"):
                layer.forward = partial(_evenly_routed, layer)
            if hasattr(layer, "inv_freq"):
                layer.forward = partial(_positions, layer)
        ledger = _Ledger()
        for name, block in blocks_of(network).items():
            ledger.watch(name, block)
        rows = torch.full((shape[0],), _longest(text))
        _, row = next(iter(text.pick(rows).even()))
        given = network_inputs(model, row, shape, torch.device("cpu"))
        inputs = {name: _on_meta(value, dtype) for name, value in given.items()}
        hooks = torch.autograd.graph.saved_tensors_hooks(ledger.keep, lambda tensor: tensor)
        with hooks, differentiable(network):
            kept = network(
                with_time(model, torch.empty(shape, **meta)),
                torch.empty(shape[0], device="meta"),
                transformer_options={"optimized_attention_override": _attention},
                **inputs,
            )
        del kept
    between = ledger.bytes.pop(BETWEEN)
    return Activations(
        whole=between + sum(ledger.bytes.values()),
        outline=between + sum(ledger.inputs.values()),
        largest_block=max(ledger.bytes.values(), default=0),
    )


def _on_meta(value: Any, dtype: torch.dtype) -> Any:
    if not torch.is_tensor(value):
        return value
    return torch.empty_like(
        value, device="meta", dtype=dtype if value.is_floating_point() else value.dtype
    )


def _longest(text: Context) -> int:
    """The number of its longest row."""
    known = text.sizes.get(TOKENS)
    return 0 if known is None else int(known[:, 0].argmax())


def gradient_bytes(model: ModelPatcher, shape: Sequence[int], text: Context, at_once: int) -> int:
    """Memory that gradients through `at_once` latents (c, h, w) under such texts need."""
    c, h, w = shape
    return activations(model, (at_once, c, h, w), lambda key: True, text).whole


def gradient_bytes_for(model: ModelPatcher, pictures: ConceptSet, at_once: int) -> int:
    """`gradient_bytes` of pictures and texts like these."""
    return gradient_bytes(model, pictures.latents.shape[1:], pictures.contexts, at_once)
