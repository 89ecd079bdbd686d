from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tverase_core.errors import ConfigError
from tverase_core.schedule import FlowSchedule, NoiseSchedule, Schedule, logit_normal

TABLE = torch.tensor([0.64, 0.36], dtype=torch.float64)


def test_noise_and_targets_by_hand() -> None:
    x0, noise = torch.full((2, 1, 1, 1), 2.0), torch.ones(2, 1, 1, 1)
    steps = torch.tensor([0, 1])
    v = NoiseSchedule(TABLE, "v")
    assert torch.allclose(v.add_noise(x0, noise, steps).flatten(), torch.tensor([2.2, 2.0]))
    assert torch.allclose(v.target(x0, noise, steps).flatten(), torch.tensor([-0.4, -1.0]))
    assert torch.equal(NoiseSchedule(TABLE, "epsilon").target(x0, noise, steps), noise)


def test_signal_and_v_give_back_the_picture() -> None:
    v = NoiseSchedule(TABLE, "v")
    x0, noise, step = torch.randn(1, 3, 2, 2), torch.randn(1, 3, 2, 2), torch.tensor([1])
    x_t, target = v.add_noise(x0, noise, step), v.target(x0, noise, step)
    assert torch.allclose(0.6 * x_t - 0.8 * target, x0, atol=1e-6)


@pytest.mark.parametrize(
    "table",
    [TABLE.flip(0), TABLE.float(), TABLE[None], TABLE + 1, TABLE[:0]],
)
def test_bad_tables_are_refused(table: torch.Tensor) -> None:
    with pytest.raises(ConfigError):
        NoiseSchedule(table, "epsilon")


def test_unknown_prediction_is_refused() -> None:
    with pytest.raises(ConfigError, match="prediction"):
        NoiseSchedule(TABLE, "x0")  # type: ignore[arg-type]


def test_the_flow_by_hand() -> None:
    x0, noise = torch.full((3, 1, 1, 1), 2.0), torch.ones(3, 1, 1, 1)
    levels = torch.tensor([0.0, 0.25, 1.0])
    flow = FlowSchedule()
    assert flow.add_noise(x0, noise, levels).flatten().tolist() == [2.0, 1.75, 1.0]
    assert flow.target(x0, noise, levels).flatten().tolist() == [-1.0] * 3


def test_a_shift_leans_towards_the_noise() -> None:
    shares = torch.tensor([0.0, 0.5, 1.0])
    assert FlowSchedule().at(shares).tolist() == [0.0, 0.5, 1.0]
    assert FlowSchedule(3.0).at(shares).tolist() == [0.0, 0.75, 1.0]
    assert FlowSchedule(3.0, 0.5).at(shares).tolist() == [0.0, 0.375, 0.5]


@pytest.mark.parametrize(
    "wrong", [{"shift": 0.0}, {"shift": float("nan")}, {"most": 1.5}, {"most": 0}]
)
def test_a_flow_without_levels_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="flow"):
        FlowSchedule(**wrong)


LONG = torch.linspace(0.999, 0.001, 1000, dtype=torch.float64)
SCHEDULES = [NoiseSchedule(LONG, "epsilon"), NoiseSchedule(LONG, "v"), FlowSchedule(3.0)]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["epsilon", "v", "flow"])
def test_a_true_prediction_leads_from_noise_to_the_picture(schedule: Schedule) -> None:
    x0, noise = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    ladder = schedule.ladder(10)
    assert len(ladder) == 10
    x = schedule.add_noise(x0, noise, ladder[:1].expand(2))
    for now, then in pairwise(ladder):
        assert now > then
        x = schedule.moved(x, schedule.target(x0, noise, now.expand(2)), now, then)
    assert torch.allclose(x, schedule.add_noise(x0, noise, ladder[-1:].expand(2)), atol=1e-4)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["epsilon", "v", "flow"])
def test_drawn_timesteps_fill_what_is_left(schedule: Schedule) -> None:
    drawn = schedule.drawn(4000, torch.Generator().manual_seed(0), least=0.5)
    ends = schedule.at(torch.tensor([0.5, 1.0]))
    assert ends[0] <= drawn.min() <= ends[0] + 0.01 * (ends[1] - ends[0])
    assert ends[1] - 0.01 * (ends[1] - ends[0]) <= drawn.max() <= ends[1]
    shares = torch.linspace(0.5, 1, 101)[:-1] + 0.0025
    assert torch.allclose(drawn.double().mean(), schedule.at(shares).double().mean(), rtol=0.02)


def test_logit_normal_shares() -> None:
    """Median one half; two thirds within one deviation of the logit, as in any normal law."""
    even = (torch.arange(10_000) + 0.5) / 10_000
    shares = logit_normal(even)
    assert float(shares.median()) == pytest.approx(0.5, abs=1e-3)
    assert float((shares.logit().abs() < 1).double().mean()) == pytest.approx(0.6827, abs=1e-3)
    cut = logit_normal(even, 0.3)
    assert float(cut.min()) == pytest.approx(0.3, abs=1e-3)
    assert torch.allclose(cut.median(), shares[shares > 0.3].median(), atol=1e-3)
    assert bool(torch.isfinite(logit_normal(torch.zeros(1))).all())
