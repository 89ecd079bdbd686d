"""Vectors of pruned weights: each value of a delta is its weight's, or 0."""

from __future__ import annotations

import torch
from torch import Tensor

PRUNED = "pruned"  # `Provenance.content` of such a vector, also of a multiple or a part of it


def pruned_union(first: Tensor, second: Tensor) -> Tensor:
    """What both prune, float32 of one shape: a weight that both prune is gone once, not twice.

    Where both have a value of one sign the larger one counts; elsewhere they add up. So W where
    both have W, and W - union is 0 there, as ConceptPrune's own erasing of several concepts is
    (arXiv 2405.19237: the union of the masks); the plain sum would leave -W.
    """
    larger = torch.where(first.abs() >= second.abs(), first, second)
    return torch.where(first.sign() * second.sign() > 0, larger, first + second)


def only_prunes(delta: Tensor, tuned: Tensor) -> bool:
    """Whether each value that differs is 0 in the tuned weights, of one shape: a pruned model. Its
    difference is -W there, and two of them are joined as the method's own vectors are."""
    return not bool(tuned[delta != 0].any())


def pruned_of(delta: Tensor, weight: Tensor, now: Tensor) -> Tensor:
    """The delta for a weight that has been edited since: the same share of what is there now.

    delta: share * weight, float32; weight: what the vector was made from, now: what it is to be
    taken from, all of one shape. Where weight is 0 nothing is pruned.
    """
    share = torch.where(delta == weight, 1.0, delta / weight)
    return torch.where(weight != 0, share * now, 0.0)
