"""Erasing: base - strength * mask * delta. The minus sign of the whole project is here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..errors import EmptyMaskError, KeyMismatchError, NonFiniteError, StrengthError, listed
from ..model.block_mask import BlockMask
from ..model.layout import ModelLayout
from .delta_map import stored_delta
from .task_vector import TaskVector, check_shape, nothing_left


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


def erased_weights(
    base: Mapping[str, Tensor],
    task_vector: TaskVector,
    strength: float,
    mask: BlockMask,
    layout: ModelLayout,
) -> Iterator[tuple[str, Tensor]]:
    """W - strength * mask * delta for every weight that changes, in the order of the keys.

    base: weights by key, any floating dtype and device; only those of the task vector are read.
    Each result is computed in float32 and cast once to W's dtype, on W's device.
    Strength 0 yields nothing. Whether base is the model that the vector was made from is the
    caller's question (`fingerprint.check_base`).
    Raises at the call, before any result: StrengthError, KeyMismatchError, ShapeMismatchError,
    UnknownBlockError, UnknownKeyError, EmptyMaskError. While iterating: NonFiniteError when a
    result does not fit W's dtype or W itself is broken.
    """
    shapes = {key: base[key].shape for key in task_vector.deltas if key in base}
    plan = plan_patches(task_vector, strength, mask, layout, shapes)
    scales = {key: scale for scale, deltas in plan.items() for key in deltas}
    return _erase(base, task_vector, scales)


def _erase(
    base: Mapping[str, Tensor], task_vector: TaskVector, scales: Mapping[str, float]
) -> Iterator[tuple[str, Tensor]]:
    for key in sorted(scales):
        weight = base[key].detach()
        # Two roundings, as the host's patches do: a fused multiply-add would differ by a bit.
        scaled = scales[key] * task_vector.deltas[key].to(weight.device)
        erased = (weight.to(torch.float32) + scaled).to(weight.dtype)
        if not bool(torch.isfinite(erased.to(torch.float32)).all()):
            raise NonFiniteError(
                f"{key}: the erased weight holds NaN or infinity in {weight.dtype}. "
                "Use a lower strength, or a base model in a wider dtype."
            )
        yield key, erased


def plan_patches(
    task_vector: TaskVector,
    strength: float,
    mask: BlockMask,
    layout: ModelLayout,
    model_shapes: Mapping[str, Sequence[int]],
) -> dict[float, dict[str, Tensor]]:
    """The deltas grouped by `signed_scale`, so that a host adds one set of patches per scale.

    model_shapes: the shape of every weight that the model can change. Every key of the task
    vector must be there, masked or not: a vector that fits in part belongs to another model.
    Strength 0 gives {}. Scales are negative, strongest first; tensors are the vector's own, float32
    or bfloat16 as it keeps them.
    Raises StrengthError, KeyMismatchError (missing), ShapeMismatchError, UnknownBlockError,
    UnknownKeyError, EmptyMaskError.
    """
    signed_scale(strength)
    missing = [key for key in task_vector.deltas if key not in model_shapes]
    if missing:
        raise KeyMismatchError(
            f"the model lacks {len(missing)} of the task vector's {len(task_vector)} weights: "
            f"{listed(missing)}. Load the model that the task vector was made from.",
            missing=missing,
        )
    for key in task_vector.deltas:
        shape = stored_delta(task_vector.deltas, key).shape
        check_shape(key, tuple(model_shapes[key]), shape, "model", "task vector")
    mask.check(layout.blocks())
    coefficients = {key: mask.coefficient(key, layout) for key in task_vector.deltas}
    if coefficients and not any(coefficients.values()):
        raise EmptyMaskError(nothing_left(mask))
    plan: dict[float, dict[str, Tensor]] = {}
    for key, coefficient in coefficients.items():
        scale = signed_scale(strength, coefficient)
        if scale:
            plan.setdefault(scale, {})[key] = stored_delta(task_vector.deltas, key)
    return dict(sorted(plan.items()))
