from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from host_support.fakes_choose import CONV, IN, MIDDLE, OUT, LinearDenoiser, latents, one_hot
from tverase_core.erasers.esd import EsdConfig, EsdResult, esd, from_sampling
from tverase_core.erasers.teaching import esd_keys, from_latents
from tverase_core.errors import ConfigError, EmptyConceptSetError, EmptyMaskError, NonFiniteError
from tverase_core.ports import Context

FAST = EsdConfig(steps=80, batch_size=4, learning_rate=0.02, seed=3)
CONCEPT, NULL = one_hot(0, 0), one_hot(-1)


def run(config: EsdConfig, denoiser: LinearDenoiser | None = None) -> EsdResult:
    denoiser = denoiser or LinearDenoiser()
    draw = from_latents(denoiser, latents(3))
    return esd(denoiser, denoiser.layout(), CONCEPT, NULL, draw, config)


@pytest.mark.parametrize("anchor", ["null", "concept"])
def test_loss_falls_and_the_erased_model_points_away(anchor: str) -> None:
    denoiser = LinearDenoiser()
    config = replace(FAST, anchor=anchor, eta=1.0 if anchor == "null" else 2.0)
    made = run(config, denoiser)
    assert made.losses[-1] < 0.01 * made.losses[0]
    x, times = latents(2), torch.tensor([3, 9])
    e_c = denoiser.predict(x, times, CONCEPT)
    e_0 = denoiser.predict(x, times, one_hot(-1, -1))
    with denoiser.attached(made.deltas) as attachment:
        attachment.scale = -1.0  # W - 1.0 * delta
        erased = denoiser.predict(x, times, CONCEPT)
    # Eta 2 from e(c) equals eta 1 from e(null): both aim at 2 e(null) - e(c).
    assert torch.allclose(erased, 2 * e_0 - e_c, atol=0.1)


def test_each_variant_moves_only_its_weights() -> None:
    assert set(run(FAST).deltas) == {IN, MIDDLE, OUT}
    assert set(run(replace(FAST, variant="u", steps=3)).deltas) == {CONV}
    layout = LinearDenoiser().layout()
    with pytest.raises(EmptyMaskError, match="ESD-x"):
        esd_keys([CONV], layout, "x")


def test_equal_seeds_equal_bits_and_the_base_stays() -> None:
    denoiser = LinearDenoiser()
    before = {k: v.clone() for k, v in denoiser.base.items()}
    first, second = run(FAST, denoiser), run(FAST, denoiser)
    assert first.losses == second.losses
    assert all(torch.equal(first.deltas[k], second.deltas[k]) for k in first.deltas)
    assert run(replace(FAST, seed=4)).losses != first.losses
    assert all(torch.equal(before[k], denoiser.base[k]) for k in before)


def test_partly_sampled_pictures_serve_as_well() -> None:
    denoiser = LinearDenoiser()
    draw = from_sampling(denoiser, CONCEPT, NULL, (4, 2, 2), sample_steps=5)
    times = set()
    for seed in range(12):
        x, t = draw(2, torch.Generator().manual_seed(seed))
        assert x.shape == (2, 4, 2, 2)
        assert bool(x.isfinite().all())
        times.update(t.tolist())
    assert times <= {19, 14, 10, 5, 0}
    assert len(times) > 2
    made = esd(denoiser, denoiser.layout(), CONCEPT, NULL, draw, FAST)
    assert made.losses[-1] < 0.1 * made.losses[0]


class Same:
    """Predicts noise of 1 under the concept and of 0.25 without it, whatever it sees."""

    schedule, device = LinearDenoiser().schedule, torch.device("cpu")

    def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        return context.tokens[:, :1, :1, None].clamp(min=0.25).expand(x_t.shape)


def test_partly_sampled_pictures_by_hand() -> None:
    """arXiv 2010.02502, eq. 12 with sigma 0, under guidance 3: noise of 0.25 + 3 * 0.75."""
    draw = from_sampling(Same(), one_hot(0), one_hot(-1), (1, 2, 2), guidance=3.0, sample_steps=4)
    table, ladder, stops = Same.schedule.alphas_cumprod, [19, 13, 6, 0], set()
    for seed in range(8):
        x, times = draw(2, torch.Generator().manual_seed(seed))
        expected = torch.randn((2, 1, 2, 2), generator=torch.Generator().manual_seed(seed)).double()
        stop = ladder.index(int(times[0]))
        for now, then in itertools.pairwise(table[ladder[: stop + 1]]):
            clean = (expected - (1 - now).sqrt() * 2.5) / now.sqrt()
            expected = then.sqrt() * clean + (1 - then).sqrt() * 2.5
        torch.testing.assert_close(x.double(), expected, rtol=1e-4, atol=1e-4)
        stops.add(stop)
    assert len(stops) > 2


def test_works_inside_inference_mode() -> None:
    with torch.inference_mode():
        assert run(replace(FAST, steps=2)).losses


def test_cancelling_detaches() -> None:
    denoiser = LinearDenoiser()

    class StopError(Exception):
        pass

    def stop(done: int, total: int, message: str) -> None:
        if done == 2:
            raise StopError

    draw = from_latents(denoiser, latents(1))
    with pytest.raises(StopError):
        esd(denoiser, denoiser.layout(), CONCEPT, NULL, draw, FAST, stop)
    assert not denoiser._deltas


def test_bad_input() -> None:
    denoiser = LinearDenoiser()
    with pytest.raises(ConfigError, match=r"variant.*steps"):
        EsdConfig(variant="y", steps=0)  # type: ignore[arg-type]
    with pytest.raises(EmptyConceptSetError):
        from_latents(denoiser, latents(0))
    draw = from_latents(denoiser, latents(1) * float("nan"))
    with pytest.raises(NonFiniteError, match="step 1 of"):
        esd(denoiser, denoiser.layout(), CONCEPT, NULL, draw, FAST)
    with pytest.raises(ConfigError, match="one empty prompt"):
        esd(denoiser, denoiser.layout(), CONCEPT, one_hot(-1, -1), draw, FAST)
