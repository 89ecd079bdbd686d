"""A sample of values tells bases of two number formats apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tverase_core.errors import BaseMismatchError, ConfigError
from tverase_core.model.fingerprint import (
    BaseFingerprint,
    base_note,
    check_base,
    sample_sha256,
    sample_values,
    sampled,
)
from tverase_core.model.sample_values import packed, unpacked, within_rounding

ONE = torch.randn(400, generator=torch.Generator().manual_seed(1)) * 0.03
DTYPES = ["float32", "float16", "bfloat16", "float8_e4m3fn"]


def rounded(values: Tensor, dtype: str) -> Tensor:
    return values.to(getattr(torch, dtype)).float()


@pytest.mark.parametrize("first", DTYPES)
@pytest.mark.parametrize("second", DTYPES)
def test_one_value_in_two_formats_is_near(first: str, second: str) -> None:
    wide = torch.cat([ONE, ONE * 1e-4, ONE * 30, torch.zeros(3)])
    assert within_rounding(rounded(wide, first), first, rounded(wide, second), second)


@pytest.mark.parametrize(
    ("first", "second", "moved"),
    [("float32", "float16", 0.001), ("float32", "bfloat16", 0.006), ("bfloat16", "float16", 0.006)],
)
def test_what_is_moved_further_is_not(first: str, second: str, moved: float) -> None:
    """Relative moves a little over half a step of the coarser format: 2**-11 and 2**-8."""
    other = rounded(ONE * (1 + moved), second)
    assert within_rounding(rounded(ONE, first), first, other, second) is False


def test_the_coarsest_of_several_formats_counts() -> None:
    half = rounded(ONE, "float16")
    assert within_rounding(half, "float32+float16", ONE, "float32")
    assert within_rounding(half, "float32", ONE, "float32") is False


def test_what_cannot_be_compared_is_unknown() -> None:
    assert within_rounding(ONE, "float32", ONE[:-1], "float16") is None
    for name in ("int8", "Tensor", "", "nothing"):
        assert within_rounding(ONE, "float32", ONE, name) is None


def test_values_survive_packing_and_sampling() -> None:
    assert torch.equal(unpacked(packed(ONE)), ONE)
    assert unpacked(packed([])).tolist() == []
    weights = {"b": torch.arange(5.0), "a": torch.arange(70_000.0).half().clamp(max=6e4)}
    samples = {name: sampled(weight) for name, weight in weights.items()}
    assert sample_values(weights) == sample_values(samples)
    assert sample_sha256(weights) == sample_sha256(samples)
    assert unpacked(sample_values(weights)).tolist()[1] == 2


@pytest.mark.parametrize("text", ["?", "AAA", "AAAA"])
def test_a_broken_sample_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="sample_values"):
        BaseFingerprint("sd", "a" * 64, sample_values=text)


def named(values: Tensor, dtype: str) -> BaseFingerprint:
    sha = sample_sha256({"w": values.to(getattr(torch, dtype))})
    return BaseFingerprint("sd", "a" * 64, sha, dtype, sample_values=packed(rounded(values, dtype)))


def test_other_weights_in_another_format_are_refused() -> None:
    wide, half = named(ONE, "float32"), named(ONE, "float16")
    other = named(ONE.flip(0), "float16")
    assert check_base(wide, half) == "same_when_rounded"
    assert "agrees as far as" in base_note("same_when_rounded", wide, half)
    with pytest.raises(BaseMismatchError, match="different weights"):
        check_base(wide, other)
    assert check_base(wide, other, allow_other_weights=True) == "different_weights"


def test_without_a_sample_it_is_said() -> None:
    old = BaseFingerprint("sd", "a" * 64, "b" * 64, "float32")
    half = named(ONE, "float16")
    assert check_base(old, half) == "unverified"
    note = base_note("unverified", old, half)
    assert "could not be verified" in note
    assert "float32, this model is float16" in note
    assert base_note("same", half, half) == ""
    assert "other weights" in base_note("different_weights", old, half)
    assert ", 12.5% apart" in base_note("different_weights", old, half, 0.125)


def test_how_far_two_models_are_apart_is_told_by_their_matrices() -> None:
    """Norms and biases, alike in all models, have no say."""
    source = torch.Generator().manual_seed(4)
    shapes = {f"{k:03}.{name}": (8,) * n for k in range(200) for name, n in (("bias", 1), ("w", 2))}
    values = torch.randn(400, generator=source)
    values[::2] = 1.0
    others = torch.where(values == 1.0, 1.0, torch.randn(400, generator=source))
    tuned = torch.where(values == 1.0, 9.0, 1.02 * values)
    base, stranger, edited = (named(made, "float32") for made in (values, others, tuned))
    assert base.apart(base, shapes) == 0
    assert base.apart(edited, shapes) == pytest.approx(0.02, abs=1e-3)
    assert base.apart(stranger, shapes) == pytest.approx(2**0.5, abs=0.15)
    assert base.apart(BaseFingerprint("sd", "a" * 64), shapes) is None
    assert base.apart(base, {"w": (8, 8)}) is None
