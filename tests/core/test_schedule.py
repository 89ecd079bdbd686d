from __future__ import annotations

import pytest
import torch

from tverase_core.errors import ConfigError
from tverase_core.schedule import NoiseSchedule

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
