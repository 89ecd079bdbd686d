"""What an erasure may leave behind in a process, and does not."""

from __future__ import annotations

import gc
import logging
import threading
from typing import Any

import comfy.model_management
import torch

from tverase_core.tensors import memory_bytes

from .digest import digest_of
from .world import AnyWorld

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Base:
    """The model and its CLIP as they were: weights and a picture, to the bit."""

    def __init__(self, world: AnyWorld):
        self._world = world
        self._weights, self._drawn = self._now()
        self._traces = traces(world)

    def changed(self) -> str | None:
        """What is different now, or None."""
        weights, drawn = self._now()
        if weights != self._weights:
            return "base weights"
        return None if drawn == self._drawn else "the base's picture"

    def left_behind(self) -> str | None:
        """What there was not before, or None."""
        now = traces(self._world)
        return next(
            (f"{k}: {v}, not {self._traces[k]}" for k, v in now.items() if v != self._traces[k]),
            None,
        )

    def _now(self) -> tuple[str, str]:
        model, clip = self._world.model, self._world.clip
        # What else is loaded onto the shared modules is taken off as the host does it: by loading.
        with torch.inference_mode():
            encoded = clip.encode_from_tokens(clip.tokenize("a cat"))
        drawn = digest_of((self._world.predicted(model), encoded))
        held = (model.model.state_dict(), clip.cond_stage_model.state_dict())
        return digest_of(held), drawn


def traces(world: AnyWorld) -> dict[str, Any]:
    """Counts of all that is put on shared modules or on the process for a time."""
    modules = [*world.model.model.modules(), *world.clip.cond_stage_model.modules()]
    return {
        "hooks": sum(len(getattr(module, name)) for module in modules for name in HOOKS),
        "functions on weights": sum(
            len(getattr(module, f"{name}_function", ()))
            for module in modules
            for name in ("weight", "bias")
        ),
        "covered methods": sum("forward" in vars(module) for module in modules),
        "patches on the base": len(world.model.patches),
        "injections on the base": len(getattr(world.model, "injections", ())),
        "weights that ask for gradients": sum(
            p.grad is not None
            for module in modules
            for p in module._parameters.values()
            if p is not None
        ),
        "listeners": len(logging.getLogger().handlers),
        # That of tqdm's progress bars lasts as long as the process.
        "threads": sum(type(t).__name__ != "TMonitor" for t in threading.enumerate()),
        "gradients on": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "half-written files": sum(1 for path in world.output.rglob(".*.tmp")),
    }


def live_bytes() -> int:
    """Main memory that all tensors hold which can be reached from Python."""
    comfy.model_management.unload_all_models()
    gc.collect()
    plain = (torch.Tensor, torch.nn.Parameter)
    held = [x for x in gc.get_objects() if type(x) in plain and x.layout == torch.strided]
    return memory_bytes(x for x in held if not x.is_meta)
