"""A MODEL as the core's `Denoiser`: deltas at work inside it, its own weights never written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.model_patcher
import torch

from ....tverase_core.errors import BaseMismatchError, listed
from ....tverase_core.ports import Context
from ....tverase_core.schedule import NoiseSchedule
from ..app.version import require_training
from ..storage.view import refuse_quantised
from ..training.fits import refuse_too_large
from .at_use import edits_at_use
from .attachments import Attachment, attached_to
from .conditioning import refuse_extra_inputs
from .numerics import compute_dtype, has_fast_bfloat16, noise_schedule, plain_attention
from .patching import plain_clone
from .weights import patched_keys, wrappable_shapes

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class _WeightSlot:
    """The function the host calls on one weight at each forward pass: W -> W + scale * delta.

    layer: whose parameter it is, as stored. Where the host computes in bfloat16 it hands over W
    rounded to that, and W + delta, rounded again, would be W for every delta below half a step: no
    small edit would act at all. From the stored W, of more digits, as many weights move as should.
    """

    def __init__(self, key: str, stack: list[Attachment], layer: torch.nn.Module):
        self._key, self._stack, self._layer = key, stack, layer

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        # The host's parameters ask for gradients: undetached, each would gather a copy of its own.
        weight, dtype = weight.detach(), weight.dtype
        acting = [
            (attachment.deltas[self._key], attachment.scale)
            for attachment in self._stack
            if attachment.scale != 0 and self._key in attachment.deltas
        ]
        if acting and dtype == torch.bfloat16:
            stored = getattr(self._layer, self._key.rpartition(".")[2])
            weight = stored.detach().to(weight.device)
        for delta, scale in acting:
            weight = torch.add(weight.float(), delta.to(weight.device), alpha=scale)
        weight = weight.to(dtype)
        # Autograd may not save the loader's inference tensors, so it gets a copy.
        return weight.clone() if torch.is_grad_enabled() and weight.is_inference() else weight


class HostDenoiser:
    """Implements `ports.Denoiser`. Made by `open_denoiser`."""

    def __init__(
        self,
        patcher: ModelPatcher,
        stack: list[Attachment],
        schedule: NoiseSchedule,
        extra_memory_bytes: int = 0,
    ):
        self.patcher, self.schedule, self._extra = patcher, schedule, extra_memory_bytes
        self.device = patcher.load_device
        self._stack, self._shapes = stack, wrappable_shapes(patcher)
        self._options = {"optimized_attention_override": plain_attention}
        self._load()

    def _load(self) -> None:
        comfy.model_management.load_models_gpu(
            [self.patcher], memory_required=self._extra, force_full_load=True
        )
        self._loaded_as = self._state()

    def _state(self) -> tuple[bool, bool]:
        """Whether it is this clone that is loaded, and whether only in part."""
        model, mine = self.patcher.model, self.patcher.patches_uuid
        return model.current_weight_patches_uuid == mine, bool(model.model_lowvram)

    def ensure_loaded(self) -> None:
        """Load it as before if the host has made room for a judge or a VAE: deltas went with it."""
        if self._state() != self._loaded_as:
            self._load()

    def weight_shapes(self) -> Mapping[str, torch.Size]:
        return self._shapes

    def attached(self, deltas: Mapping[str, torch.Tensor]) -> AbstractContextManager[Attachment]:
        advice = "The model has no weight {}. Use the model family these deltas were made from."
        return attached_to(self._stack, deltas, self._shapes, advice)

    def predict(self, x_t: torch.Tensor, timesteps: torch.Tensor, context: Context) -> torch.Tensor:
        """The network's own output. Calling it directly avoids the detour over x0, which loses
        digits at small noise, and averages no conditions over the batch as the guider does."""
        self.ensure_loaded()
        model = self.patcher.model
        dtype = model.manual_cast_dtype or model.get_dtype()
        extra = {k: v.to(self.device, dtype) for k, v in context.extra.items()}
        return model.diffusion_model(
            x_t.to(self.device, dtype),
            timesteps.to(self.device).float(),
            context=context.tokens.to(self.device, dtype),
            transformer_options=self._options,
            **extra,
        ).float()


@contextmanager
def open_denoiser(
    model: ModelPatcher,
    extra_memory_bytes: int = 0,
    *,
    purpose: str = "Concept Fine-tune",
    autocast: bool = False,
) -> Iterator[HostDenoiser]:
    """Load a clone of `model` whose every weight can carry deltas and gradients.

    autocast: compute in bfloat16, drawing too, on CPUs that are fast at it (docs/decisions/0021).
    Off, results are exact.

    Leaves inference mode for its block. On the way out, by any way, the clone is unloaded and
    every wrapper is taken off the shared modules: a stale one would survive a partial load.
    Raises before loading: HostTooOldError, MemoryError, BaseMismatchError (quantised, flow, edit).
    """
    require_training()
    refuse_quantised(model, purpose)
    refuse_extra_inputs(model)
    schedule = noise_schedule(model)
    refuse_too_large(model, extra_memory_bytes, purpose)
    clone = plain_clone(model)
    stack: list[Attachment] = []
    for key in wrappable_shapes(clone):
        layer = clone.model.get_submodule(key.rpartition(".")[0])
        clone.add_weight_wrapper(key, _WeightSlot(key, stack, layer))
    fast = autocast and has_fast_bfloat16(clone.load_device)
    clone.set_model_compute_dtype(torch.bfloat16 if fast else compute_dtype(clone.load_device))
    try:
        with torch.inference_mode(False):
            yield HostDenoiser(clone, stack, schedule, extra_memory_bytes)
    finally:
        stack.clear()
        clone.detach()
        for module in clone.model.modules():
            comfy.model_patcher.wipe_lowvram_weight(module)


def refuse_patched(model: ModelPatcher) -> None:
    """Raise when the MODEL is already edited: a vector learned on top is not the base's."""
    at_use = edits_at_use(model)
    if at_use:
        raise BaseMismatchError(
            f"This MODEL already carries edits that act when it computes ({listed(at_use)}), for "
            "example an erasure in runtime_exact mode or a LoRA in training. Connect the MODEL "
            "straight from the checkpoint loader."
        )
    keys = patched_keys(model)
    if keys:
        raise BaseMismatchError(
            f"This MODEL already carries patches on {len(keys)} weights ({listed(keys)}), for "
            "example a LoRA or an erasure. Connect the MODEL straight from the checkpoint loader, "
            "or save the patched model as a checkpoint and load that."
        )
