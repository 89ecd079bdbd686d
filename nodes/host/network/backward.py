"""Forward passes that gradients can pass: no fused kernels, nothing written in place."""

from __future__ import annotations

import dis
import importlib
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import comfy.model_management
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch._ops import OpOverloadPacket
from torch.overrides import TorchFunctionMode

_INSTEAD: dict[str, Callable[[Any, Any], Any]] = {
    "add_": operator.add,
    "sub_": operator.sub,
    "mul_": operator.mul,
    "div_": operator.truediv,
}
_FIRST_INPLACE = 13  # of the arguments of BINARY_OP, Python 3.11 and newer; then come only such


class _Differentiable(TorchFunctionMode):
    """Turns `a += b` into `a = a + b`, `a = torch.add(b, c, out=d)` into `a = b + c`, and fused
    kernels into what they compute.

    Flux, FLUX.2 and Chroma add to their streams in place, into tensors that autograd has saved.
    Without checkpointing PyTorch says so; with it the gradients are wrong and nothing is said.
    A statement `a.add_(b)`, whose result nobody takes, stays as it is. Language models of newer
    hosts give `out`, which autograd refuses. Some kernels of comfy-kitchen, which have no backward
    pass, newer hosts call in training too (Cosmos).
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if isinstance(func, OpOverloadPacket) and any(map(_asks_for_gradient, args)):
            return _unfused(func)(*args, **(kwargs or {}))
        instead = _INSTEAD.get(getattr(func, "__name__", ""))
        if instead is not None and not kwargs and _is_augmented(sys._getframe(1)):
            return instead(*args)
        if func is torch.add and kwargs and torch.is_grad_enabled():
            kwargs = {name: value for name, value in kwargs.items() if name != "out"}
        return func(*args, **(kwargs or {}))


def _asks_for_gradient(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad


def _unfused(func: OpOverloadPacket) -> Any:
    """The same in plain PyTorch, where it is a kernel of comfy-kitchen."""
    if not str(func).startswith("comfy_kitchen."):
        return func
    eager = importlib.import_module("comfy_kitchen.backends.eager")
    return getattr(eager, func.__name__, func)


def _is_augmented(frame: FrameType) -> bool:
    """Whether the frame is at an augmented assignment: both reach torch as one method."""
    code, at = frame.f_code.co_code, frame.f_lasti
    name = dis.opname[code[at]]
    return name.startswith("INPLACE_") or (name == "BINARY_OP" and code[at + 1] >= _FIRST_INPLACE)


@contextmanager
def differentiable(network: torch.nn.Module) -> Iterator[None]:
    """While open, the network computes so that a backward pass can follow; also for recomputing.

    Newer hosts have a switch for their fused kernels; it is put back by any way out.
    """
    if isinstance(network, UNetModel):  # nothing of it is fused, or written into what is saved
        yield
        return
    host = comfy.model_management
    before = getattr(host, "in_training", None)  # since ComfyUI 0.10
    try:
        if before is not None:
            host.in_training = True
        with _Differentiable():
            yield
    finally:
        if before is not None:
            host.in_training = before
