"""Faults of the world, made to happen at the n-th moment at which each could.

A run of the stage without a fault counts the moments.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode


class InjectedError(RuntimeError):
    """Stands for a fault in anybody's code."""


class Moments:
    """Counts moments; `when` the count is reached, `act` happens. when 0: never."""

    def __init__(self, when: int = 0, act: Callable[[Any], Any] = lambda made: made):
        self.when, self.act, self.count = when, act, 0

    def reached(self, made: Any = None) -> Any:
        """made: what the moment gave; what it is to be instead is returned."""
        self.count += 1
        return self.act(made) if self.count == self.when else made


class _Operations(TorchDispatchMode):
    """Every operation of torch that makes a new tensor is a moment."""

    def __init__(self, moments: Moments):
        super().__init__()
        self._moments = moments

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and not func.is_view:
            self._moments.reached()
        return made


def _raiser(error: Callable[[], BaseException]) -> Callable[[Any], Any]:
    def act(_: Any) -> Any:
        raise error()

    return act


@contextmanager
def _operations(moments: Moments) -> Iterator[None]:
    with _Operations(moments):
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _cancels(moments: Moments) -> Iterator[None]:
    host = comfy.model_management
    plain = host.throw_exception_if_processing_interrupted

    def asked() -> None:
        moments.reached()
        plain()

    with _replaced(host, "throw_exception_if_processing_interrupted", asked):
        yield


@contextmanager
def _network_calls(moments: Moments) -> Iterator[None]:
    from comfy.ldm.lumina.model import NextDiT
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    def heard(plain: Callable[..., Any]) -> Callable[..., Any]:
        def forward(self: Any, *words: Any, **named: Any) -> Any:
            return moments.reached(plain(self, *words, **named))

        return forward

    with (
        _replaced(UNetModel, "forward", heard(UNetModel.forward)),
        _replaced(NextDiT, "forward", heard(NextDiT.forward)),
    ):
        yield


@contextmanager
def _writes(moments: Moments) -> Iterator[None]:
    """Files of ours, pictures, and the host's own safetensors."""
    import comfy.utils

    fsync, save, torch_file = os.fsync, Image.Image.save, comfy.utils.save_torch_file

    def moment(plain: Callable[..., Any]) -> Callable[..., Any]:
        def written(*words: Any, **named: Any) -> Any:
            moments.reached()
            return plain(*words, **named)

        return written

    with (
        _replaced(os, "fsync", moment(fsync)),
        _replaced(Image.Image, "save", moment(save)),
        _replaced(comfy.utils, "save_torch_file", moment(torch_file)),
    ):
        yield


def _cancelled() -> BaseException:
    cancelled: BaseException = comfy.model_management.InterruptProcessingException()
    return cancelled


# By kind: the moments at which it could happen, and what happens.
KINDS: dict[str, tuple[Callable[[Moments], Any], Callable[[Any], Any]]] = {
    "exception": (_operations, _raiser(lambda: InjectedError("injected"))),
    "out of memory": (_operations, _raiser(lambda: torch.OutOfMemoryError("injected"))),
    "cancel": (_cancels, _raiser(_cancelled)),
    "NaN": (_network_calls, lambda made: made * float("nan")),
    "disk full": (_writes, _raiser(lambda: OSError(errno.ENOSPC, "No space left on device"))),
}
EXPECTED = (
    InjectedError,
    torch.OutOfMemoryError,
    OSError,
    comfy.model_management.InterruptProcessingException,
)
