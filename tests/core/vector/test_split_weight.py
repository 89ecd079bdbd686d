"""Two tensors stand for one weight: layers see their exact sum."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tverase_core.vector.split_weight import SplitWeight, added

SHARE = 0.002  # of the weight's size: bfloat16 loses most of it


def parts(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=source).to(dtype)
    return weight, SHARE * torch.randn(shape, generator=source)


def apart(got: Tensor, wanted: Tensor) -> float:
    """Length of the difference as a share of what was wanted; a wrong power of two gives 0.5."""
    return float((got.double() - wanted.double()).norm() / wanted.double().norm())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [-1.5, -1e-4])
def test_what_one_tensor_loses_two_keep(dtype: torch.dtype, scale: float) -> None:
    weight, delta = parts((64, 64), dtype)
    split = added(weight, delta, scale)
    assert isinstance(split, SplitWeight)
    assert torch.equal(split.main(), weight)
    assert apart(split.delta(), scale * delta) < 0.004
    if scale == -1.5 and dtype == torch.bfloat16:
        rounded = (weight.float() + scale * delta).to(dtype).float() - weight.float()
        assert apart(rounded, scale * delta) > 0.3


def test_wide_weights_are_summed() -> None:
    for dtype in (torch.float32, torch.float64):
        weight, delta = parts((8, 8), dtype)
        total = added(weight, delta, -0.5)
        assert type(total) is Tensor
        assert total.dtype == dtype
        assert torch.equal(total, torch.add(weight, delta.to(dtype), alpha=-0.5))


def test_narrow_weights_are_rounded_once() -> None:
    weight, delta = parts((8, 8), torch.float8_e4m3fn)
    total = added(weight, 100 * delta, -1.0)
    assert torch.equal(
        total.float(), (weight.float() - 100 * delta).to(torch.float8_e4m3fn).float()
    )


LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Callable[..., Tensor]]] = {
    "linear": ((5, 8), (3, 7, 8), F.linear),
    "conv2d": ((5, 8, 3, 3), (2, 8, 6, 6), lambda x, w, b: F.conv2d(x, w, b, padding=1)),
    "group_norm": ((8,), (2, 8, 4, 4), lambda x, w, b: F.group_norm(x, 2, w, b)),
    "layer_norm": ((8,), (2, 3, 8), lambda x, w, b: F.layer_norm(x, (8,), weight=w, bias=b)),
    "rms_norm": ((8,), (2, 3, 8), lambda x, w, _: F.rms_norm(x, (8,), w)),
}


@pytest.mark.parametrize(
    ("name", "which"),
    [
        (name, which)
        for name in LAYERS
        for which in ("weight", "bias", "both")
        if name != "rms_norm" or which == "weight"  # it has no bias
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_layers_use_both_parts(name: str, which: str, dtype: torch.dtype) -> None:
    """What the delta does to the output, read off at a thousandfold delta and no main part: there
    rounding of the output cannot hide a part that was forgotten."""
    shape, x_shape, layer = LAYERS[name]
    x = torch.randn(x_shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    weight, weight_delta = parts(shape, dtype)
    bias, bias_delta = parts(shape[:1], dtype, seed=1)
    zero_w, zero_b = torch.zeros_like(weight), torch.zeros_like(bias)
    w = added(zero_w, 1000 * weight_delta, -1.0) if which != "bias" else zero_w
    b = added(zero_b, 1000 * bias_delta, -1.0) if which != "weight" else zero_b
    exact = layer(
        x.float(),
        -1000 * weight_delta if which != "bias" else zero_w.float(),
        -1000 * bias_delta if which != "weight" else zero_b.float(),
    )
    got = layer(x, w, b)
    assert type(got) is Tensor
    assert got.dtype == dtype
    assert apart(got, exact) < 0.01


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "rms_norm"])
def test_a_plain_bias_beside_a_split_weight_counts_once(name: str) -> None:
    shape, x_shape, layer = LAYERS[name]
    weight, delta = parts(shape, torch.float16)
    zeros, bias = torch.zeros(x_shape).half(), torch.arange(1.0, shape[0] + 1).half()
    got = layer(zeros, added(weight, delta, -1.0), bias)
    assert torch.equal(got, layer(zeros, weight, bias))


def test_other_uses_see_the_rounded_sum() -> None:
    weight, delta = parts((4, 4), torch.bfloat16)
    split = added(weight, 100 * delta, 1.0)
    whole = (weight.float() + split.delta()).to(torch.bfloat16)
    assert torch.equal(split @ torch.eye(4, dtype=torch.bfloat16), whole)
    assert torch.equal(split + split, whole + whole)
    assert split.shape == weight.shape
    assert split.dtype == torch.bfloat16


def test_a_scaled_weight_stays_split() -> None:
    weight, delta = parts((4, 4), torch.bfloat16)
    scaled = added(weight, delta, -1.0) * torch.tensor(0.5, dtype=torch.bfloat16)
    assert isinstance(scaled, SplitWeight)
    assert torch.equal(scaled.main(), weight * 0.5)
    assert apart(scaled.delta(), -0.5 * delta) < 0.004


def test_splits_add_up() -> None:
    weight, delta = parts((16, 16), torch.float16)
    twice = added(added(weight, delta, -1.0), delta, -0.5)
    assert isinstance(twice, SplitWeight)
    assert torch.equal(twice.main(), weight)
    assert apart(twice.delta(), -1.5 * delta) < 0.004


def test_works_in_inference_mode() -> None:
    with torch.inference_mode():
        weight, delta = parts((4, 4), torch.bfloat16)
        got = F.linear(torch.eye(4, dtype=torch.bfloat16), added(weight, delta, -1.0))
    assert got.shape == (4, 4)
