"""Erasing: base - strength * mask * delta. The minus sign of the whole project is here.

`masked_deltas` says what of a vector acts on a model; `subtracted` gives it the sign and the
strength; `edits` carries it out on plain weights, a host on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ..errors import KeyMismatchError, NonFiniteError, StrengthError, listed
from ..model.block_mask import BlockMask
from ..model.layout import ModelLayout
from .delta_map import stored_delta
from .task_vector import TaskVector, check_shape, mask_coefficients

# Deltas by key, grouped by the factor they count with. The tensors are the vector's own, float32
# or bfloat16 as it keeps them.
Plan: TypeAlias = Mapping[float, Mapping[str, Tensor]]


def signed_scale(strength: float, coefficient: float = 1.0) -> float:
    """The factor of a delta that erases: -strength * coefficient, or 0.0.

    strength: finite and >= 0, else StrengthError. coefficient: a mask's, in [0, 1].
    Task arithmetic by negation, arXiv 2212.04089 section 3 and arXiv 2404.03631.
    """
    number = isinstance(strength, (int, float)) and not isinstance(strength, bool)
    if not number or not math.isfinite(strength) or strength < 0:
        raise StrengthError(
            f"strength: expected a finite number >= 0, got {strength!r}. "
            "0 changes nothing, larger erases more; the sign is set here, never by the caller."
        )
    if not 0 <= coefficient <= 1:
        raise StrengthError(f"mask coefficient: expected 0 to 1, got {coefficient!r}")
    return -float(strength) * coefficient or 0.0


def masked_deltas(
    task_vector: TaskVector,
    mask: BlockMask,
    layout: ModelLayout,
    shapes: Mapping[str, Sequence[int]],
) -> Plan:
    """What acts on a model of a task vector: its deltas grouped by mask coefficient, in (0, 1].

    shapes: of every weight that the model can change. Every key of the task vector must be there,
    masked or not: a vector that fits in part belongs to another model.
    Raises KeyMismatchError (missing), ShapeMismatchError, UnknownBlockError, UnknownKeyError,
    EmptyMaskError.
    """
    missing = [key for key in task_vector.deltas if key not in shapes]
    if missing:
        raise KeyMismatchError(
            f"the model lacks {len(missing)} of the task vector's {len(task_vector)} weights: "
            f"{listed(missing)}. Load the model that the task vector was made from.",
            missing=missing,
        )
    plan: dict[float, dict[str, Tensor]] = {}
    coefficients = mask_coefficients(task_vector.deltas, mask, layout)
    for key in task_vector.deltas:
        delta = stored_delta(task_vector.deltas, key)
        check_shape(key, tuple(shapes[key]), delta.shape, "model", "task vector")
        if key in coefficients:
            plan.setdefault(coefficients[key], {})[key] = delta
    return plan


def subtracted(deltas: Plan, strength: float) -> Plan:
    """`masked_deltas` grouped by `signed_scale`: what is to be added to the weights.

    Scales are negative, strongest first. Strength 0 gives {}. Raises StrengthError.
    """
    signed_scale(strength)
    plan: dict[float, dict[str, Tensor]] = {}
    for coefficient in sorted(deltas, reverse=True):
        scale = signed_scale(strength, coefficient)
        if scale:
            plan.setdefault(scale, {}).update(deltas[coefficient])
    return plan


@dataclass(frozen=True, slots=True)
class Edit:
    """One weight. before: as read; meant: float32, the change that was asked for; after: in the
    dtype of `before`. All on the device of `before`."""

    key: str
    before: Tensor
    meant: Tensor
    after: Tensor


def edits(read: Callable[[str], Tensor], plan: Plan) -> Iterator[Edit]:
    """W + scale * delta of every weight in the plan, in the order of the keys.

    read: key -> W, any floating dtype and device; asked once for each weight. Each result is
    computed in float32 and cast once. Raises NonFiniteError when a result does not fit W's dtype
    or W itself is broken.
    """
    scales = {key: scale for scale, deltas in plan.items() for key in deltas}
    for key in sorted(scales):
        weight = read(key).detach()
        # Two roundings, as the host's patches do: a fused multiply-add would differ by a bit.
        meant = scales[key] * plan[scales[key]][key].to(weight.device, torch.float32)
        erased = (weight.to(torch.float32) + meant).to(weight.dtype)
        if not bool(torch.isfinite(erased.to(torch.float32)).all()):
            raise NonFiniteError(
                f"{key}: the erased weight holds NaN or infinity in {weight.dtype}. "
                "Use a lower strength, or a base model in a wider dtype."
            )
        yield Edit(key, weight, meant, erased)


def erased_weights(
    base: Mapping[str, Tensor],
    task_vector: TaskVector,
    strength: float,
    mask: BlockMask,
    layout: ModelLayout,
) -> Iterator[tuple[str, Tensor]]:
    """W - strength * mask * delta for every weight that changes, in the order of the keys.

    base: weights by key, any floating dtype and device. Each result has W's dtype and device.
    Whether base is the model that the vector was made from is the caller's question
    (`fingerprint.check_base`). Raises at the call what `masked_deltas` and `subtracted` raise,
    while iterating what `edits` raises.
    """
    shapes = {key: weight.shape for key, weight in base.items()}
    plan = subtracted(masked_deltas(task_vector, mask, layout, shapes), strength)
    return ((edit.key, edit.after) for edit in edits(base.__getitem__, plan))
