"""What this ComfyUI can do, found by looking, not by its version number alone."""

from __future__ import annotations

import inspect
from importlib import util

import comfy.ldm.modules.attention
import comfy.model_patcher

from ....tverase_core.errors import TveraseError


class HostTooOldError(TveraseError, RuntimeError):
    """This ComfyUI lacks something a node needs."""


def host_version() -> str:
    """ComfyUI's version, or "before 0.3.11" where it does not carry one."""
    if util.find_spec("comfyui_version") is None:
        return "before 0.3.11"
    import comfyui_version

    return str(comfyui_version.__version__)


def can_train() -> bool:
    """Weight wrappers are there, and the transformer block adds out of place (since 0.3.41)."""
    if not hasattr(comfy.model_patcher.ModelPatcher, "add_weight_wrapper"):
        return False
    # Older blocks add in place to tensors that autograd has saved, so backward fails. The method,
    # not the class: reading a class's source parses its file, too deep a call inside a node.
    forward = inspect.getsource(comfy.ldm.modules.attention.BasicTransformerBlock.forward)
    return "x += n" not in forward


def require_training() -> None:
    """Raise HostTooOldError unless gradients can flow through this ComfyUI's models."""
    if not can_train():
        raise HostTooOldError(
            f"Training needs ComfyUI 0.3.41 or newer; this is {host_version()}. Update ComfyUI. "
            "Loading, extracting and applying task vectors work here as they are."
        )
