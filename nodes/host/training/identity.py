"""What a result depends on, told so that no two things that differ are told alike."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher

from ....tverase_core.errors import TveraseError
from ....tverase_core.model.fingerprint import sampled
from ....tverase_core.tensors import tensor_bytes
from ..model.exact import INJECTION, exact_edits
from ..model.weights import fingerprint

# Whose code its name tells: the host's and our own, whose versions stand beside it.
OURS = (
    TveraseError.__module__.removesuffix(".errors"),
    __name__.removesuffix(".nodes.host.training.identity"),
)
KNOWN = ("builtins", "collections", "functools", "types", "comfy", "comfy_extras", "torch", *OURS)
WHOLE = 1 << 22  # values of a module's weight that count one by one; of a larger one, a sample
PLAIN = (str, bytes, int, float, complex, range, torch.dtype, torch.device, type(None))
# What acts when a MODEL computes, beside its weights, by the host's names for it.
ACTING = (
    *("patches", "model_options", "object_patches", "weight_wrapper_patches", "wrappers"),
    *("callbacks", "additional_models", "hook_patches", "forced_hooks"),
)


class Description:
    """A digest of all values that it is given, in their order: the same in another process.

    Tensors and settings count to the bit, a MODEL by its fingerprint and its edits. unknown: kinds
    of things that are another pack's, of which two that differ may be told alike.
    """

    def __init__(self, *values: Any) -> None:
        self._total, self.unknown = hashlib.sha256(), list[str]()
        for value in values:
            self._add(value, frozenset())

    def digest(self) -> str:
        """32 hex digits."""
        return self._total.hexdigest()[:32]

    def _say(self, *words: object) -> None:
        for word in words:
            text = str(word).encode("utf-8", "surrogatepass")
            self._total.update(f"{len(text)}:".encode() + text)

    def _add(self, value: Any, around: frozenset[int]) -> None:
        """around: the identities of what holds the value, since objects may hold each other."""
        if isinstance(value, PLAIN) and not isinstance(value, Enum):
            self._say(type(value).__name__, value)
        elif isinstance(value, torch.Tensor):
            self._tensor(value)
        elif id(value) not in around and self._knows(value):
            parts = list(self._parts(value))
            self._say(len(parts))
            for part in parts:
                self._add(part, around | {id(value)})

    def _knows(self, value: Any) -> bool:
        """Says what kind of thing it is, which is all that is said of what is not known."""
        if isinstance(value, FunctionType | BuiltinFunctionType):
            kinds: tuple[Any, ...] = (value,)
        else:
            kinds = (value if isinstance(value, type) else type(value)).__mro__
        modules = [getattr(kind, "__module__", None) or "builtins" for kind in kinds]
        for kind, module in zip(kinds, modules, strict=True):
            self._say(module.removeprefix(OURS[1]), kind.__qualname__)
        known = any(f"{modules[0]}.".startswith(f"{name}.") for name in KNOWN)
        if not known:
            self.unknown.append(kinds[0].__qualname__)
        return known

    def _parts(self, value: Any) -> Iterable[Any]:
        if isinstance(value, ModelPatcher):
            return self._patcher(value)
        if isinstance(value, torch.nn.Module):
            return self._module(value, {})
        if isinstance(value, Mapping):
            pairs = sorted(value.items(), key=lambda pair: str(pair[0]))
            return [part for pair in pairs for part in pair]
        if isinstance(value, list | tuple):
            return value
        if isinstance(value, set | frozenset):
            return sorted(value, key=repr)
        held = _held(value)
        if held is None:
            self.unknown.append(type(value).__qualname__)
        return held or ()

    def _patcher(self, patcher: ModelPatcher) -> Iterable[Any]:
        """The weights below its edits, and its edits."""
        if hasattr(patcher.model, "diffusion_model"):
            base = fingerprint(patcher)
            yield base.architecture, base.key_digest, base.sample_sha256, base.dtype
            yield patcher.model.get_dtype(), patcher.model.manual_cast_dtype
            yield from map(patcher.get_model_object, ("model_sampling", "latent_format"))
        else:
            yield from self._module(patcher.model, patcher.backup)
        for name in ACTING:
            yield getattr(patcher, name, None)
        yield exact_edits(patcher)
        injections = getattr(patcher, "injections", {})
        yield {k: v for k, v in injections.items() if not k.startswith(INJECTION)}

    def _module(self, module: torch.nn.Module, backup: Mapping[str, Any]) -> Iterable[Any]:
        """backup: stored weights in whose place the module has patched ones now."""
        for name, layer in module.named_modules():
            self._say(name)
            self._knows(layer)
        for name, held in (*module.named_parameters(), *module.named_buffers()):
            value = backup[name].weight if name in backup else held
            self._say(name)
            self._tensor(value if value.numel() <= WHOLE else sampled(value))
        return ()

    def _tensor(self, value: torch.Tensor) -> None:
        plain = type(value) in (torch.Tensor, torch.nn.Parameter) and not value.is_meta
        self._say(type(value).__name__, value.dtype, tuple(value.shape))
        if plain:
            self._total.update(tensor_bytes(value.cpu()))
        else:
            self.unknown.append(type(value).__qualname__)


def _held(value: Any) -> Iterable[Any] | None:
    """What an object is made of; None where it does not show it."""
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        # Two functions of one place may have one name, as lambdas do.
        return [value.__code__.co_firstlineno, value.__defaults__, value.__kwdefaults__, *cells]
    if isinstance(value, BuiltinFunctionType | type):
        return ()
    if isinstance(value, MethodType):
        return value.__func__, value.__self__
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, Enum):
        return (value.name,)
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    if not hasattr(value, "__dict__"):
        return None
    # A VAE learns its size when it is first asked for it.
    return [{k: v for k, v in vars(value).items() if (k, type(value)) != ("size", comfy.sd.VAE)}]
