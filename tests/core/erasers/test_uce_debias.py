"""UCE's debiasing: the scales rise where a share falls short, until the shares are as wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from tverase_core.erasers.uce_debias import DebiasConfig, DebiasResult, debias
from tverase_core.errors import ConfigError

WANTED = (0.5, 0.5)


class World:
    """Prompt i draws the first attribute in the share that its scales and its bias say."""

    def __init__(self, *bias: float):
        self.bias = torch.tensor(bias, dtype=torch.float64)
        self.solved: list[Tensor] = []

    def solve(self, scales: Tensor) -> Mapping[str, Tensor]:
        self.solved.append(scales)
        return {"w": scales}

    def measure(self, deltas: Mapping[str, Tensor]) -> Tensor:
        scales = deltas.get("w", torch.zeros(len(self.bias), 2))
        first = (self.bias + 0.3 * (scales[:, 0] - scales[:, 1])).clamp(0, 1)
        return torch.stack([first, 1 - first], 1)

    def run(self, wanted: Any = WANTED, config: DebiasConfig | None = None) -> DebiasResult:
        return debias(self.solve, self.measure, len(self.bias), wanted, config)


def test_hand_computed_first_step() -> None:
    world = World(0.9)
    made = world.run(config=DebiasConfig(rounds=1))
    assert made.scales.tolist() == [[pytest.approx(-0.4), pytest.approx(0.4)]]
    assert made.shares[0].tolist() == [[pytest.approx(0.9), pytest.approx(0.1)]]
    assert made.deltas["w"] is world.solved[-1]
    assert not made.reached


def test_shares_come_to_what_is_wanted_and_a_prompt_that_fits_is_left_alone() -> None:
    world = World(0.95, 0.52)
    made = world.run()
    assert made.reached
    assert float((made.shares[-1] - torch.tensor(WANTED)).abs().max()) < 0.05
    assert made.scales[1].tolist() == [0.0, 0.0]
    assert len(made.shares) < 30
    skewed = World(0.5).run((0.8, 0.2))
    assert float(skewed.shares[-1][0, 0]) == pytest.approx(0.8, abs=0.05)


def test_nothing_is_solved_where_all_is_as_wanted() -> None:
    world = World(0.5)
    made = world.run()
    assert made.reached
    assert made.deltas == {}
    assert world.solved == []


def test_it_ends_and_says_that_it_did_not_get_there() -> None:
    stubborn = World(0.9)
    stubborn.measure = lambda deltas: torch.tensor([[0.9, 0.1]])  # type: ignore[method-assign]
    made = stubborn.run(config=DebiasConfig(rounds=4))
    assert not made.reached
    assert len(made.shares) == len(stubborn.solved) == 4


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match=r"rounds.*tolerance"):
        DebiasConfig(rounds=0, tolerance=0.0)
    for wanted in ((0.5, 0.6), (1.0,), (1.5, -0.5), (float("nan"), 0.5)):
        with pytest.raises(ConfigError, match="sum to 1"):
            World(0.5).run(wanted)
