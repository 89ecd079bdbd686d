"""One view of a loaded model: what its weights are, by key, whatever they are stored as."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch

from ....tverase_core.errors import BaseMismatchError, listed
from ....tverase_core.model.layout import ModelLayout, detect_layout
from .formats import (
    BESIDE,
    READABLE,
    is_packed,
    is_readable,
    layer_of,
    parameters,
    stored_as,
    unpacked_at_use,
)

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

PREFIX = "diffusion_model."


@dataclass
class WeightView:
    """shapes: of what each weight stands for. usable: of those that the host lets a function
    see at each forward pass, that is of its own layers; free-standing parameters, which some
    newer families have, are not among them. trainable: usable ones and those parameters that
    patches reach. passed_over: those that they do not: of modules that have layers inside them,
    such as padding tokens, the host patches none and says nothing, nor does it patch buffers, such
    as Stable Diffusion 3's table of positions.
    packed: keys of weights that are unpacked before use. unreadable: format by key of
    parameters whose numbers we cannot get. scales: shapes of what lies beside scaled weights.
    sample: for `weights.fingerprint`, found when it is first asked for.
    """

    shapes: Mapping[str, torch.Size]
    usable: Mapping[str, torch.Size]
    trainable: Mapping[str, torch.Size]
    passed_over: frozenset[str]
    packed: frozenset[str]
    unreadable: Mapping[str, str]
    scales: Mapping[str, torch.Size]
    sample: dict[str, str | None] = field(default_factory=dict)

    @cached_property
    def layout(self) -> ModelLayout:
        return detect_layout(self.shapes)


_views: WeakKeyDictionary[torch.nn.Module, dict[str, WeightView]] = WeakKeyDictionary()


def view_of(model: ModelPatcher, prefix: str = PREFIX) -> WeightView:
    """The view of a MODEL's diffusion model, or with prefix "" of all that a patcher has.

    Made at the first call for a loaded model, and kept with it: its clones share it.
    """
    views = _views.setdefault(model.model, {})
    if prefix not in views:
        views[prefix] = _seen(model.model, prefix)
    return views[prefix]


def _seen(module: torch.nn.Module, prefix: str) -> WeightView:
    shapes, usable, trainable, unreadable, scales = {}, {}, {}, {}, {}
    packed, passed_over = set(), set()
    for key, layer, name, weight in parameters(module):
        if not key.startswith(prefix):
            continue
        shape = torch.Size(weight.shape)
        if name == "scaled_fp8" or (name in BESIDE and hasattr(layer, "weight")):
            scales[key] = shape
        elif is_readable(layer, name, weight):
            shapes[key] = shape
            if is_packed(layer, name, weight):
                packed.add(key)
            if name in ("weight", "bias") and hasattr(layer, "weight_function"):
                usable[key] = trainable[key] = shape
            elif name in layer._buffers or _has_layers(layer):
                passed_over.add(key)
            else:
                trainable[key] = shape
        elif name in layer._parameters:  # buffers of whole numbers are positions and counts
            unreadable[key] = f"{type(weight).__name__} of {weight.dtype}"
    keys = frozenset(passed_over), frozenset(packed)
    return WeightView(shapes, usable, trainable, *keys, unreadable, scales)


def _has_layers(module: torch.nn.Module) -> bool:
    """Whether parameters lie deeper in it too: such modules are left out by `ModelPatcher.load`."""
    return any("." in name for name, _ in module.named_parameters())


def refuse_quantised(model: ModelPatcher, purpose: str) -> None:
    """Raise when weights are in a format that lets no function see their numbers at use."""
    view = view_of(model)
    for key in [*sorted(view.packed), *view.unreadable]:
        layer, name = layer_of(model.model, key)
        weight = getattr(layer, name)
        if key in view.packed and not unpacked_at_use(weight):
            continue
        raise BaseMismatchError(
            f"{purpose} cannot train in this format: {key} is stored as "
            f"{stored_as(layer, name, weight)}. Load the same model in fp16, bf16, fp32, or one of "
            "ComfyUI's own 8-bit formats; a task vector made from that can be applied to this one."
        )


def refuse_unreadable(model: ModelPatcher, keys: Collection[str], prefix: str = PREFIX) -> None:
    """Raise when the model lacks some of the keys, and holds weights in a format unknown here."""
    view = view_of(model, prefix)
    if view.unreadable and any(key not in view.shapes for key in keys):
        key, kind = next(iter(view.unreadable.items()))
        raise BaseMismatchError(
            f"{len(view.unreadable)} weights of this model are in a format that this pack cannot "
            f"read: {listed(view.unreadable)}; {key} is {kind}. Nothing was changed. "
            f"What works: {READABLE}."
        )
