"""tuned - base for two MODELs, key by key in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ....tverase_core.errors import (
    BaseMismatchError,
    KeyMismatchError,
    NonFiniteError,
    ShapeMismatchError,
    listed,
)
from ....tverase_core.vector.pruned import only_prunes
from ....tverase_core.vector.rounding import RoundingShare
from ..storage.view import refuse_unreadable, view_of
from .at_use import refuse_edits_at_use
from .computed import computed
from .weights import base_weight, effective_weight, model_shapes

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

Progress = Callable[[int, int, str], None]


@dataclass
class Extracted:
    """deltas: float32 on the CPU, by key; weights that do not differ are left out. still: keys of
    patches that moved nothing. pruned: whether each value that differs is 0 in the tuned model.
    rounding: what the storage of the two has part in."""

    deltas: dict[str, torch.Tensor] = field(default_factory=dict)
    still: list[str] = field(default_factory=list)
    pruned: bool = True
    rounding: RoundingShare = field(default_factory=RoundingShare)

    def keep(self, key: str, before: torch.Tensor, delta: torch.Tensor) -> None:
        """delta: of this weight, which is `before` in the base."""
        if not bool(torch.isfinite(delta).all()):
            raise NonFiniteError(
                f"{key}: the difference holds NaN or infinity. One of the two models is broken; "
                "load it again or use another checkpoint."
            )
        if bool(delta.any()):
            self.deltas[key] = delta.contiguous()
            self.pruned = self.pruned and only_prunes(delta, before + delta)


def deltas_between(base: ModelPatcher, tuned: ModelPatcher, progress: Progress) -> Extracted:
    """tuned - base.

    When both MODELs share one set of weights (one is a patched clone of the other), only the
    extra patches are evaluated: exact, and nothing is loaded. Otherwise both are read key by key.
    Raises KeyMismatchError, ShapeMismatchError, NonFiniteError (key named), BaseMismatchError.
    """
    for model in (base, tuned):
        refuse_edits_at_use(model, "Extract Task Vector")
    one = base.model is tuned.model
    found = (_from_patch_lists if one else _from_weights)(base, tuned, progress)
    if found.still and not found.deltas:
        still = f"{len(found.still)} weights ({listed(found.still)})"
        raise BaseMismatchError(
            f"The tuned model's patches on {still} move none of "
            "them, so there is no task vector. Give the LoRA or merge a strength above 0, or "
            "connect the fine-tuned MODEL to `tuned`."
        )
    if not found.deltas:
        raise BaseMismatchError(
            "The tuned model has exactly the base's weights, so there is no task vector. "
            "Connect the fine-tuned MODEL to `tuned` and the untouched MODEL to `base`."
        )
    return found


def _from_patch_lists(base: ModelPatcher, tuned: ModelPatcher, progress: Progress) -> Extracted:
    found = Extracted()
    shapes = model_shapes(base)
    for done, key in enumerate(shapes):
        own, extra = base.patches.get(key, []), tuned.patches.get(key, [])
        progress(done + 1, len(shapes), key)
        kept = zip(own, extra, strict=False)
        if len(extra) < len(own) or not all(a is b or _same_patch(a, b) for a, b in kept):
            raise BaseMismatchError(
                f"The tuned model does not carry the base's patches on {key}. Connect the same "
                "MODEL, with the same LoRAs, to `base` as the fine-tune started from."
            )
        if len(extra) == len(own):
            continue
        weight = base_weight(base, key).to("cpu", torch.float32, copy=True)
        added = extra[len(own) :]
        plain = all(
            isinstance(v, tuple) and v[0] == "diff" and scale == 1 and offset is None and fn is None
            for _, v, scale, offset, fn in added
        )
        before = computed(own, weight.clone(), key) if own else weight
        if plain:  # linear in the weight: evaluated on zero, so nothing is rounded away
            delta = computed(added, torch.zeros_like(weight), key)
        else:
            delta = computed(added, before.clone(), key) - before
        found.keep(key, before, delta)
        if key not in found.deltas:
            found.still.append(key)
    return found


def _same_patch(a: tuple, b: tuple) -> bool:
    return a[0] == b[0] and a[1] is b[1] and a[2] == b[2]


def _from_weights(base: ModelPatcher, tuned: ModelPatcher, progress: Progress) -> Extracted:
    known, wanted = model_shapes(base), model_shapes(tuned)
    refuse_unreadable(base, wanted)
    refuse_unreadable(tuned, known)
    missing, extra = sorted(set(known) - set(wanted)), sorted(set(wanted) - set(known))
    if missing or extra:
        raise KeyMismatchError(
            f"base and tuned are different models: {len(missing)} weights only in base "
            f"({listed(missing)}), {len(extra)} only in tuned ({listed(extra)}). Connect two "
            "checkpoints of one model family.",
            missing=missing,
            unexpected=extra,
        )
    for key, shape in known.items():
        if wanted[key] != shape:
            raise ShapeMismatchError(
                f"{key}: base has shape {tuple(shape)}, tuned has {tuple(wanted[key])}. Connect "
                "two checkpoints of one model family.",
                key=key,
                expected=shape,
                got=wanted[key],
            )
    found = Extracted()
    packed = {key for model in (base, tuned) for key in view_of(model).packed}
    for done, key in enumerate(known):
        progress(done + 1, len(known), key)
        before = effective_weight(base, key)
        delta = effective_weight(tuned, key) - before
        found.keep(key, before, delta)
        # A patched weight is computed, and what a packed format does to one takes all of it.
        if not (key in packed or key in base.patches or key in tuned.patches):
            stored = (base_weight(model, key).cpu() for model in (base, tuned))
            found.rounding.add(*stored, delta)
    return found
