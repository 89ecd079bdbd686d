"""Where deltas can act in a loaded clone: a slot for each weight."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ..network.attachments import Attachment
from ..network.given_weights import KINDS, Values
from ..network.loose import Change
from ..network.weight_slot import WeightSlot
from ..storage.formats import layer_of
from ..storage.view import PREFIX, view_of
from .weights import trainable_shapes, wrappable_shapes

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


@dataclass
class Slots:
    """given: values of layers that compute with them, by the parameter's name; loose: (name in the
    network, change) of what modules read themselves. The other weights' slots are wrappers of the
    clone."""

    given: dict[torch.nn.Module, dict[str, Values]] = field(default_factory=dict)
    loose: list[tuple[str, Change]] = field(default_factory=list)


def slots_of(clone: ModelPatcher, stack: list[Attachment]) -> Slots:
    """Slots on all weights, in which the deltas on the stack act, those that patches pass over
    among them: an edit reaches these too."""
    made, view = Slots(), view_of(clone)
    for key in [*trainable_shapes(clone), *sorted(view.passed_over)]:
        layer, name = layer_of(clone.model, key)
        slot = WeightSlot(key, stack, layer)
        if _is_at_hand(clone, key, layer):
            # The first of several names of one layer counts, as it does for the host.
            made.given.setdefault(layer, {}).setdefault(name, slot.given)
        elif key in wrappable_shapes(clone):
            clone.add_weight_wrapper(key, slot)
        else:
            made.loose.append((key.removeprefix(PREFIX), slot))
    scales = [key for key in view.scales if key.endswith("scale_weight")]
    made.loose += [(key.removeprefix(PREFIX), torch.Tensor.clone) for key in scales]
    return made


def _is_at_hand(clone: ModelPatcher, key: str, layer: torch.nn.Module) -> bool:
    """Whether the stored weight, or bias, can serve as it lies there: nothing unpacks it, brings it
    to a GPU or changes it before the layer computes."""
    view = view_of(clone)
    packed = {f"{key.rpartition('.')[0]}.{name}" for name in ("weight", "bias")} & view.packed
    wrapped = key in clone.weight_wrapper_patches
    known = isinstance(layer, KINDS) and key in view.usable
    return clone.load_device.type == "cpu" and known and not packed and not wrapped
