"""A weight's gradient on its way to the deltas that are in the weight."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .room import Added


class Product(NamedTuple):
    """left @ right in the weight's shape; made only where it goes.

    left: [rows, n], right: [n, columns]; the weight's first axis counts as rows, all others
    together as columns.
    """

    left: Tensor
    right: Tensor
    shape: torch.Size

    def whole(self) -> Tensor:
        return (self.left @ self.right).view(self.shape)


def shared(of_weight: Product | Tensor, learning: Added) -> Tensor | None:
    """What autograd is to add to the delta's gradient, float32; None when it is there already.

    On a CPU a product is made straight in the `grad` of a leaf, where `backward()` would put it:
    in the memory of the step before, or onto what is there. `torch.autograd.grad` does not see it.
    """
    if isinstance(of_weight, Product):
        if _takes(learning, of_weight):
            _put(of_weight, learning)
            return None
        of_weight = of_weight.whole()
    whole = of_weight.float()
    return whole if learning.factor == 1.0 else whole * learning.factor


def _takes(learning: Added, product: Product) -> bool:
    """Whether the delta's own gradient can hold the product as it is."""
    delta = learning.delta
    formats = {delta.dtype, product.left.dtype}
    if learning.hooked or not delta.is_leaf:
        return False
    if formats != {torch.float32} or delta.device.type != "cpu":
        return False
    return delta.grad is None or delta.grad.is_contiguous()


@torch.no_grad()
def _put(product: Product, learning: Added) -> None:
    before = learning.delta.grad
    made = learning.room.gradient(learning.delta) if before is None else before
    # With beta 0 whatever lies there is not read.
    made.view(len(product.left), -1).addmm_(
        product.left, product.right, beta=before is not None, alpha=learning.factor
    )
    learning.delta.grad = made
