"""An edit added each time that a weight is used: right in every dtype, thin where it is thin."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tverase_core.vector.at_use import AddedAtUse, thin_factors
from tverase_core.vector.split_weight import Factors, SplitWeight

HALF = (torch.float16, torch.bfloat16)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def product(rows: int, columns: int, rank: int = 2) -> Tensor:
    return noise(rows, rank, seed=1) @ noise(rank, columns, seed=2) / rank**0.5


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("delta", [noise(96, 80, seed=3), product(96, 80)])
@pytest.mark.parametrize("share", [0.002, 0.2])
def test_a_layer_gives_what_the_whole_sum_gives(
    dtype: torch.dtype, delta: Tensor, share: float
) -> None:
    """For edits far below a step of the weights' dtype and far above; strength -1.5."""
    weight, x = noise(96, 80).to(dtype), noise(5, 80, seed=4).to(dtype)
    edit = AddedAtUse(share * delta, -1.5, thin=True)
    for _ in range(2):  # the second use takes what the first has kept
        got = F.linear(x, edit(weight.clone())).double() - F.linear(x, weight).double()
        meant = F.linear(x.double(), -1.5 * share * delta.double())
        floor = 0.5 * torch.finfo(dtype).eps * F.linear(x, weight).double().norm()
        assert (got - meant).norm() < 0.01 * meant.norm() + floor


@pytest.mark.parametrize("dtype", HALF)
def test_thin_edits_are_two_thin_products(dtype: torch.dtype) -> None:
    weight = noise(96, 80).to(dtype)
    used = AddedAtUse(0.001 * product(96, 80), 2.0, thin=True)(weight)
    assert isinstance(used, SplitWeight)
    assert isinstance(used.extra, Factors)
    assert used.extra.up.shape == (96, 2)
    torch.testing.assert_close(used.delta(), 0.002 * product(96, 80), rtol=0, atol=1e-4)
    whole = AddedAtUse(0.001 * noise(96, 80), 2.0, thin=True)(weight)
    assert isinstance(whole.extra, Tensor)
    assert isinstance(AddedAtUse(0.001 * product(96, 80), 2.0)(weight).extra, Tensor)


def test_thin_convolutions() -> None:
    delta = 0.001 * product(32, 48 * 9).reshape(32, 48, 3, 3)
    weight, x = noise(32, 48, 3, 3).bfloat16(), noise(1, 48, 8, 8, seed=4).bfloat16()
    used = AddedAtUse(delta, 1.0, thin=True)(weight)
    assert isinstance(used.extra, Factors)
    got = F.conv2d(x, used, None, 2, 1).double() - F.conv2d(x, weight, None, 2, 1).double()
    meant = F.conv2d(x.double(), delta.double(), None, 2, 1)
    floor = 2**-8 * F.conv2d(x, weight, None, 2, 1).double().norm()
    assert (got - meant).norm() < 0.01 * meant.norm() + floor


def test_what_the_layer_owns_is_not_written_to() -> None:
    weight, delta = noise(8, 8), noise(8, 8, seed=1)
    held, edit = weight.clone(), AddedAtUse(delta, -1.0)
    assert torch.equal(edit(weight, kept=weight), held - delta)
    assert torch.equal(edit(weight), held - delta)
    assert torch.equal(weight, held)
    copy = weight.clone()
    assert edit(copy, kept=weight) is copy


def test_large_edits_in_half_precision_take_one_product() -> None:
    weight = noise(96, 80).half()
    assert type(AddedAtUse(0.1 * noise(96, 80, seed=1), 1.0)(weight)) is Tensor
    assert isinstance(AddedAtUse(0.001 * noise(96, 80, seed=1), 1.0)(weight), SplitWeight)


def test_nothing_is_kept_without_room() -> None:
    weight, edit = noise(96, 80).half(), AddedAtUse(0.001 * noise(96, 80, seed=1), 1.0)
    edit.keep = False
    first = edit(weight).delta()
    assert edit._ready is None
    assert torch.equal(edit(weight).delta(), first)


def test_only_a_product_has_factors() -> None:
    up, down = thin_factors(product(96, 80)) or (None, None)
    torch.testing.assert_close(up @ down, product(96, 80), rtol=0, atol=1e-4)
    assert thin_factors(noise(96, 80)) is None
    assert thin_factors(torch.zeros(96, 80)) is None
    assert thin_factors(noise(4, 4)) is None  # two factors would be no smaller
