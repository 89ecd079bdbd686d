"""Memory of training and of gradients, estimated by a dry run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ....tverase_core.concept_set import ConceptSet
from ....tverase_core.finetuning.memory_plan import Activations
from ....tverase_core.ports import TOKENS, Context
from ..model.conditioning import network_inputs
from ..model.numerics import compute_dtype
from ..network.backward import differentiable
from ..network.frozen_weight import may_stay
from ..network.latents import with_time
from .meta import WholeLayers, counted_attention, without_content, without_copy
from .recompute import blocks_of

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

BETWEEN = ""  # name for what lies outside the blocks


class _Ledger:
    """Bytes of every storage that autograd keeps, by the block that kept it first."""

    def __init__(self) -> None:
        self.block = BETWEEN
        self.bytes: dict[str, int] = {BETWEEN: 0}
        self.inputs: dict[int, int] = {}
        self._seen: set[int] = set()

    def pass_over(self, weight: torch.Tensor) -> None:
        self._seen.add(weight.untyped_storage()._cdata)

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
    trained: Callable[[str], bool] | None,
    text: Context,
    dtype: torch.dtype | None = None,
    *,
    low_rank: bool = False,
) -> Activations:
    """What autograd keeps of one forward pass of latents [b, c, h, w].

    The model's own network is built anew on the meta device, where tensors have a size and no
    content, and run once with what learns asking for gradients. trained: by weight key; None where
    the texts learn and no weight. text: one of its longest rows stands for all. dtype: what is
    computed in, where not what the model's device computes in; a CPU that is fast in bfloat16
    counts as computing in float32, which is more. low_rank: how weights learn. No weight counts
    that stays as it is, and no large sum with a delta (`FrozenWeight`).
    A ComfyUI without `optimized_attention_override` (0.3.52) counts attention scores that the real
    pass does not keep: there the estimate is high.
    """
    config = dict(model.model.model_config.unet_config)
    dtype = dtype or compute_dtype(model)
    meta = {"device": "meta", "dtype": dtype}
    kind = type(model.model.diffusion_model)
    with torch.inference_mode(False), torch.enable_grad():
        network = kind(**{**config, **meta}, operations=WholeLayers)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(trained is not None and trained(f"diffusion_model.{name}"))
        without_content(network)
        ledger = _Ledger()
        for layer in filter(may_stay, network.modules()):
            if low_rank and layer.weight.requires_grad:
                ledger.pass_over(layer.weight)
            else:
                without_copy(layer)
        for name, block in blocks_of(network).items():
            ledger.watch(name, block)
        rows = torch.full((shape[0],), _longest(text))
        _, row = next(iter(text.pick(rows).even()))
        given = network_inputs(model, row, shape, torch.device("cpu"))
        inputs = {name: _on_meta(value, dtype, trained is None) for name, value in given.items()}
        hooks = torch.autograd.graph.saved_tensors_hooks(ledger.keep, lambda tensor: tensor)
        with hooks, differentiable(network):
            kept = network(
                with_time(model, torch.empty(shape, **meta)),
                torch.empty(shape[0], device="meta"),
                transformer_options={"optimized_attention_override": counted_attention},
                **inputs,
            )
        del kept
    between = ledger.bytes.pop(BETWEEN)
    return Activations(
        whole=between + sum(ledger.bytes.values()),
        outline=between + sum(ledger.inputs.values()),
        largest_block=max(ledger.bytes.values(), default=0),
    )


def _on_meta(value: Any, dtype: torch.dtype, learns: bool) -> Any:
    if not torch.is_tensor(value):
        return value
    floating = value.is_floating_point()
    made = torch.empty_like(value, device="meta", dtype=dtype if floating else value.dtype)
    return made.requires_grad_(learns and floating)


def _longest(text: Context) -> int:
    """The number of its longest row."""
    known = text.sizes.get(TOKENS)
    return 0 if known is None else int(known[:, 0].argmax())


def gradient_bytes(model: ModelPatcher, shape: Sequence[int], text: Context, at_once: int) -> int:
    """Memory that gradients through `at_once` latents (c, h, w) under such texts need."""
    c, h, w = shape
    return activations(model, (at_once, c, h, w), None, text).whole


def gradient_bytes_for(model: ModelPatcher, pictures: ConceptSet, at_once: int) -> int:
    """`gradient_bytes` of pictures and texts like these."""
    return gradient_bytes(model, pictures.latents.shape[1:], pictures.contexts, at_once)
