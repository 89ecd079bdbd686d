"""A MODEL as the core's `Denoiser`: deltas at work inside it, its own weights never written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch

from ....tverase_core.errors import BaseMismatchError, listed
from ....tverase_core.ports import Context
from ....tverase_core.schedule import Schedule
from ..app.version import require_training
from ..network.attachments import Attachment, attached_to
from ..network.backward import differentiable
from ..network.given_weights import given_weights
from ..network.kinds import refuse_extra_inputs
from ..network.latents import with_time, without_time
from ..network.loose import changed_when_read, noticed_loading
from ..network.schedule import network_times, schedule_of
from ..storage.view import refuse_quantised, view_of
from ..training.fits import refuse_too_large
from .at_use import edits_at_use
from .conditioning import is_masked, network_inputs
from .numerics import compute_dtype, plain_attention
from .patching import let_go, plain_clone
from .slots import slots_of
from .weights import patched_keys, trainable_shapes

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class HostDenoiser:
    """Implements `ports.Denoiser`. Made by `open_denoiser`."""

    def __init__(
        self,
        patcher: ModelPatcher,
        stack: list[Attachment],
        schedule: Schedule,
        extra_memory_bytes: int = 0,
    ):
        self.patcher, self.schedule, self._extra = patcher, schedule, extra_memory_bytes
        self.device = patcher.load_device
        self._stack, self._shapes = stack, trainable_shapes(patcher)
        self._options = {"optimized_attention_override": plain_attention}
        self._load()

    def _load(self) -> None:
        with torch.inference_mode():  # as the host loads: it can move no other quantised weights
            comfy.model_management.load_models_gpu(
                [self.patcher], memory_required=self._extra, force_full_load=True
            )
        self._loaded_as = self._state()

    def _state(self) -> tuple[bool, bool]:
        """Whether it is this clone that is loaded, and whether only in part."""
        return _is_loaded(self.patcher), bool(self.patcher.model.model_lowvram)

    def ensure_loaded(self) -> None:
        """Load it as before if the host has made room for a judge or a VAE: deltas went with it."""
        if self._state() != self._loaded_as:
            self._load()

    def weight_shapes(self) -> Mapping[str, torch.Size]:
        return self._shapes

    def attached(self, deltas: Mapping[str, torch.Tensor]) -> AbstractContextManager[Attachment]:
        advice = "The model has no weight {}. Use the model family these deltas were made from."
        known = self._shapes.keys() | view_of(self.patcher).passed_over
        return attached_to(self._stack, deltas, known, advice)

    def predict(self, x_t: torch.Tensor, timesteps: torch.Tensor, context: Context) -> torch.Tensor:
        """The network's own output. Calling it directly avoids the detour over x0, which loses
        digits at small noise, and averages no conditions over the batch as the guider does."""
        self.ensure_loaded()
        groups = [part for rows, same in context.even() for part in _apart(rows, same)]
        if len(groups) == 1:
            return self._predict(x_t, timesteps, groups[0][1])
        made = [self._predict(x_t[rows], timesteps[rows], part) for rows, part in groups]
        order = torch.cat([rows for rows, _ in groups]).argsort()
        return torch.cat(made)[order.to(self.device)]

    def _predict(
        self, x_t: torch.Tensor, timesteps: torch.Tensor, context: Context
    ) -> torch.Tensor:
        """The same for texts of one size."""
        model = self.patcher.model
        dtype = model.manual_cast_dtype or model.get_dtype()
        with differentiable(model.diffusion_model):
            inputs = network_inputs(self.patcher, context, x_t.shape, self.device)
            made = model.diffusion_model(
                with_time(self.patcher, x_t.to(self.device, dtype)),
                network_times(self.patcher, self.schedule, timesteps.to(self.device)),
                transformer_options=dict(self._options),  # networks write into it
                **{name: _as(dtype, value) for name, value in inputs.items()},
            )
        return without_time(made).float()


def _apart(rows: torch.Tensor, context: Context) -> list[tuple[torch.Tensor, Context]]:
    """The rows one by one where masks say which tokens count: some networks know one mask only."""
    if not is_masked(context):
        return [(rows, context)]
    places = torch.arange(len(rows)).split(1)
    return [(rows[place], context.pick(place)) for place in places]


def _as(dtype: torch.dtype, value: Any) -> Any:
    """Tensors of whole numbers stay what they are."""
    if torch.is_tensor(value) and value.is_floating_point():
        return value.to(dtype)
    return value


@contextmanager
def open_denoiser(
    model: ModelPatcher,
    extra_memory_bytes: int = 0,
    *,
    purpose: str = "Concept Fine-tune",
    autocast: bool = False,
) -> Iterator[HostDenoiser]:
    """Load a clone of `model` whose every weight can carry deltas and gradients.

    autocast: compute in bfloat16, drawing too, on CPUs that are fast at it (`compute_dtype`). Off,
    results are exact.

    Leaves inference mode for its block. On the way out, by any way, the clone is unloaded and
    every wrapper is taken off the shared modules: a stale one would survive a partial load.
    Raises before loading: HostTooOldError, MemoryError, BaseMismatchError (a format that
    no function sees, an unknown schedule, an editing model).
    """
    require_training()
    refuse_quantised(model, purpose)
    refuse_extra_inputs(model)
    schedule = schedule_of(model)
    refuse_too_large(model, extra_memory_bytes, purpose)
    clone = plain_clone(model)
    network, stack = clone.model.diffusion_model, list[Attachment]()
    slots = slots_of(clone, stack)
    clone.set_model_compute_dtype(compute_dtype(clone, fast=autocast))
    try:
        with (
            torch.inference_mode(False),
            noticed_loading(clone) as loading,
            changed_when_read(network, slots.loose, lambda: _is_loaded(clone) and not loading()),
            given_weights(slots.given, lambda: _is_loaded(clone)),
        ):
            yield HostDenoiser(clone, stack, schedule, extra_memory_bytes)
    finally:
        stack.clear()
        let_go(clone)


def _is_loaded(clone: ModelPatcher) -> bool:
    """Whether it is this clone's patches that the shared layers have."""
    return bool(clone.model.current_weight_patches_uuid == clone.patches_uuid)


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
