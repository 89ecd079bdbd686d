"""Pictures that nodes show: right size, no crash at the edges, colours that all can tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from host_support.fakes_choose import Planted, falling
from tverase_core.errors import ConfigError
from tverase_core.strength.choice import SearchConfig
from tverase_core.strength.curve import StrengthGrid
from tverase_core.strength.search import find_strength

CONFIG = SearchConfig(
    seeds=tuple(range(24)), retained_seeds=(90, 91, 92, 93), grid=StrengthGrid.even(0.25, 2.0)
)


def has_color(picture: Image.Image, color: str) -> bool:
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    return bool((np.abs(pixels - wanted).max(2) <= 2).any())


def test_strength_curve(pack: Any) -> None:
    from tverase_pack.nodes.pictures.figure import BLUE, ORANGE
    from tverase_pack.nodes.pictures.strength_curve import strength_curve

    triggers = [falling(0.6), falling(0.9)]
    for kept in (falling(5.0), falling(0.3)):
        measure = Planted(triggers, [kept])
        choice = find_strength(measure, CONFIG)
        picture = strength_curve(choice, "cat")
        assert picture.width >= 500
        assert all(has_color(picture, color) for color in (BLUE, ORANGE))
        assert choice.feasible == (kept(1.0) > 0.5)


@pytest.mark.parametrize("count", [1, 2, 12, 30])
def test_cosine_matrix(pack: Any, count: int) -> None:
    from tverase_pack.nodes.pictures.cosine_matrix import cosine_matrix

    cosines = torch.linspace(-1, 1, count * count).view(count, count)
    before = cosines.clone()
    picture = cosine_matrix(cosines, "cat: likeness")
    assert picture.width >= 400
    assert torch.equal(cosines, before)


def test_inversion_grid(pack: Any) -> None:
    from tverase_pack.nodes.pictures.inversion_grid import MOST_ROWS, inversion_grid

    pictures = {k: torch.rand(3, 16, 16, 3) for k in range(40)}
    labels = [f"{k}: loss 0.1" for k in range(40)]
    few = inversion_grid(labels[:2], {0: pictures[0], 1: pictures[1]}, 2)
    many = inversion_grid(labels, pictures, 2)
    row = few.height / 2
    assert many.height < (MOST_ROWS + 1) * row
    assert few.width < 400


def test_retained_prompts(pack: Any) -> None:
    from tverase_pack.nodes.shared.retained_prompts import parse_retained

    found = parse_retained("a dog | dog\n\n The tree\nbig | small | house ", "cat")
    assert found.prompts == ("a dog", "The tree", "big | small")
    assert found.concepts == ("dog", "tree", "house")
    assert not found.warnings
    warned = parse_retained("two Cats | dog\na concatenation | dog\nx | cat", "cat").warnings
    assert len(warned) == 2
    assert "'two Cats'" in warned[0]
    # Chinese has no spaces between words.
    assert len(parse_retained("一只小猫 | 动物\n一只狗 | 狗", "猫").warnings) == 1
    for bad in ("", "  \n", "| dog", "a dog |"):
        with pytest.raises(ConfigError):
            parse_retained(bad, "cat")


def test_no_seed_serves_two_purposes(pack: Any) -> None:
    from tverase_pack.nodes.shared.drawing_settings import drawing_widgets
    from tverase_pack.nodes.strength.strength_settings import (
        SETTINGS,
        held_out_seeds,
        search_config,
    )

    taken: list[int] = []
    for seed in (0, 1, 12345):
        settings = {**SETTINGS, **drawing_widgets()}
        widgets = {name: spec[1].get("default") for name, spec in settings.items()}
        widgets["seed"] = seed
        search = search_config(widgets)
        for part in (search.seeds, search.retained_seeds, *held_out_seeds(widgets)):
            taken += part
    assert len(set(taken)) == len(taken)
