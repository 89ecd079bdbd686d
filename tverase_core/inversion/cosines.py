"""Angles between inversions: how alike two of them are, and how near one is to the concept's word.

An inversion is t vectors of width d in each text tower. Its angle in a tower is that of the t * d
numbers as one long vector.
"""

from __future__ import annotations

import torch
from torch import Tensor

MARGIN = 1e-6  # keeps float32 rounding from carrying a cosine over the interval's edge


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of every pair; float [n, t, d] and [m, t, d] -> [n, m] in -1..1."""
    unit_first, unit_second = (
        torch.nn.functional.normalize(vectors.flatten(1), dim=1) for vectors in (first, second)
    )
    return unit_first @ unit_second.T


def spread_penalty(vectors: Tensor, fixed: Tensor, floor: float, cap: float) -> Tensor:
    """Mean over the others of how far the cosine lies outside [floor, cap], for each inversion;
    float [n].

    vectors: float [n, t, d]; fixed: [m, t, d] further ones that do not move. Our derivation: of
    the paper's diversity term only is known that it acts on cosines, within two bounds.
    """
    count, others = len(vectors), len(vectors) + len(fixed) - 1
    if others == 0:
        return vectors.sum() * torch.zeros(count)
    found = cosines(vectors, torch.cat([vectors, fixed]))
    outside = (found - cap).clamp_min(0) + (floor - found).clamp_min(0)
    own = torch.eye(count, count + len(fixed), dtype=torch.bool, device=vectors.device)
    return outside.masked_fill(own, 0).sum(1) / others


def project(vectors: Tensor, word: Tensor, low: Tensor, high: Tensor, norm: float) -> Tensor:
    """The nearest directions whose cosine to `word` lies in [low, high], at the given norm.

    vectors: float32 [n, t, d]; word: [t, d], not zero; low <= high: float [n] in -1..1; norm > 0 of
    the t * d numbers together. Returns float32 [n, t, d].

    Our derivation. With u the word's unit vector, split v = p u + o, o orthogonal to u. Among
    directions of cosine c to u the nearest to v is c u + sqrt(1 - c^2) o / |o|, and the nearest
    allowed c is the clamped one. Where v is parallel to u (or zero) every o is equally near; the
    axis on which u is smallest decides. Intervals shrink by MARGIN, so that the result keeps its
    promise in float32.
    """
    flat = vectors.detach().double().flatten(1)
    unit = torch.nn.functional.normalize(word.detach().double().flatten(), dim=0)
    length = flat.norm(dim=1, keepdim=True)
    along = flat @ unit
    aside = flat - along[:, None] * unit
    parallel = aside.norm(dim=1, keepdim=True) <= 1e-9 * length
    axis = torch.nn.functional.one_hot(unit.abs().argmin(), len(unit)).double()
    aside = torch.where(parallel, axis - (axis @ unit) * unit, aside)
    cosine = along / length[:, 0].clamp_min(torch.finfo(torch.float64).tiny)
    margin = torch.clamp((high - low).double() / 2, max=MARGIN)
    cosine = cosine.clamp(low.double() + margin, high.double() - margin)[:, None]
    sine = (1 - cosine.square()).clamp_min(0).sqrt()
    direction = cosine * unit + sine * torch.nn.functional.normalize(aside, dim=1)
    held: Tensor = (direction * norm).view(vectors.shape).float()
    return held
