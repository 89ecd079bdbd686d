from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tverase_core.errors import ConfigError, ShapeMismatchError
from tverase_core.judging.collapse_guard import (
    WHITE_NOISE,
    CollapseGuard,
    collapse_reason,
    picture_statistics,
)


def disc(radius: float, size: int = 32) -> Tensor:
    """A red disc with a soft edge on white, [1, size, size, 3]."""
    line = torch.linspace(-1, 1, size)
    inside = torch.sigmoid((radius - (line[:, None] ** 2 + line**2).sqrt()) * 20)
    return torch.stack([torch.ones(size, size), 1 - inside, 1 - inside], dim=-1)[None]


BASE = torch.cat([disc(0.4), disc(0.6), disc(0.8)])


def noise(amount: float) -> Tensor:
    made = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    return 0.5 + amount * (made - 0.5)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (disc(0.5), None),
        (disc(0.5).flip(1) * 0.7, None),
        (torch.zeros(1, 32, 32, 3), "black"),
        (torch.full((1, 32, 32, 3), 0.5), "constant"),
        (0.5 + 0.15 * (disc(0.5) - 0.5), "vanishing variance"),
        (noise(1.0), "noise"),
        (torch.full((1, 32, 32, 3), float("nan")), "not finite"),
        (disc(0.5) * float("inf"), "not finite"),
    ],
)
def test_each_kind_of_broken_picture_is_named(picture: Tensor, reason: str | None) -> None:
    assert CollapseGuard.fit(BASE).judge(picture) == [reason]


def test_base_pictures_are_never_broken() -> None:
    assert CollapseGuard.fit(BASE).judge(BASE) == [None] * 3
    rough = torch.cat([noise(1.0), disc(0.4)])
    assert CollapseGuard.fit(rough).judge(rough) == [None, None]


def test_white_noise_has_the_known_roughness() -> None:
    generator = torch.Generator().manual_seed(1)
    row = picture_statistics(torch.rand(1, 128, 128, 3, generator=generator))[0]
    assert row.roughness == pytest.approx(WHITE_NOISE, abs=0.02)
    assert picture_statistics(disc(0.5))[0].roughness < 0.05


def test_collapse_needs_more_than_the_share() -> None:
    assert collapse_reason([None, "noise", None, None], 0.25) is None
    assert collapse_reason([None, "noise", "black", None], 0.25) == (
        "2 of 4 retained pictures are broken: black, noise"
    )
    assert collapse_reason([], 0.25) is None


def test_a_broken_base_is_refused() -> None:
    with pytest.raises(ConfigError, match="already broken"):
        CollapseGuard.fit(torch.zeros(2, 8, 8, 3))
    with pytest.raises(ShapeMismatchError, match="H, W, 3"):
        picture_statistics(torch.zeros(8, 8, 3))
