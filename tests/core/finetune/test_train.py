from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from host_support.fakes_learn import TinyDenoiser, pictures, silent
from tverase_core.errors import ConfigError, EmptyMaskError, NonFiniteError
from tverase_core.finetuning.average import DeltaAverage, ramp
from tverase_core.finetuning.config import FinetuneConfig
from tverase_core.finetuning.train import Checkpoints, FinetuneStep, finetune, finetune_job
from tverase_core.ports import Context
from tverase_core.schedule import NoiseSchedule
from tverase_core.storage.training_state import (
    TrainingState,
    load_training_state,
    save_training_state,
)

FAST = FinetuneConfig(steps=60, batch_size=8, accumulation=2, learning_rate=1e-2, seed=5)


def frozen_copy(denoiser: TinyDenoiser) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in denoiser.base.items()}


def assert_untouched(denoiser: TinyDenoiser, before: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(value, before[key]) for key, value in denoiser.base.items())
    assert not hasattr(denoiser, "_deltas")


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_loss_falls_and_base_stays(prediction: str) -> None:
    denoiser = TinyDenoiser(prediction=prediction)
    before = frozen_copy(denoiser)
    result = finetune(denoiser, pictures(), FAST, silent)
    assert sum(result.losses[-10:]) < 0.8 * sum(result.losses[:10])
    assert set(result.deltas) == set(denoiser.weight_shapes())
    assert all(d.dtype == torch.float32 and d.abs().sum() > 0 for d in result.deltas.values())
    assert_untouched(denoiser, before)


def test_same_seed_same_bits_other_seed_other_bits() -> None:
    first, again = (finetune(TinyDenoiser(), pictures(), FAST, silent) for _ in range(2))
    other = finetune(TinyDenoiser(), pictures(), replace(FAST, seed=6), silent)
    assert first.losses == again.losses
    for key, delta in first.deltas.items():
        assert torch.equal(delta, again.deltas[key])
        assert not torch.equal(delta, other.deltas[key])


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    finetune(TinyDenoiser(), pictures(), replace(FAST, steps=2), silent)
    assert torch.equal(before, torch.get_rng_state())


def test_parts_of_a_step_do_not_change_the_result() -> None:
    whole, parts = (
        finetune(TinyDenoiser(), pictures(), replace(FAST, steps=5, accumulation=a), silent)
        for a in (1, 4)
    )
    for key, delta in whole.deltas.items():
        assert torch.allclose(delta, parts.deltas[key], atol=1e-5)


def test_first_step_of_adam_by_hand() -> None:
    config = replace(FAST, steps=1, ema=False, weight_decay=0.0, gradient_clip=1e9)
    result = finetune(TinyDenoiser(), pictures(), config, silent)
    moved = torch.cat([delta.flatten() for delta in result.deltas.values()])
    assert torch.allclose(moved.abs(), torch.tensor(0.01), atol=1e-4)


def test_only_allowed_keys_move() -> None:
    config = replace(FAST, steps=3, trainable=lambda key: ".text." in key)
    result = finetune(TinyDenoiser(), pictures(), config, silent)
    assert set(result.deltas) == {"diffusion_model.text.weight"}
    with pytest.raises(EmptyMaskError):
        finetune(TinyDenoiser(), pictures(), replace(FAST, trainable=lambda key: False), silent)


def test_rank_bounds_every_delta() -> None:
    result = finetune(TinyDenoiser(), pictures(), replace(FAST, rank=2, ema=False), silent)
    assert "diffusion_model.in.bias" not in result.deltas
    for delta in result.deltas.values():
        assert torch.linalg.matrix_rank(delta.flatten(1), rtol=1e-4) == min(2, *delta.shape[:2])
    assert sum(result.losses[-10:]) < 0.9 * sum(result.losses[:10])


def test_rank_holds_for_the_moving_average() -> None:
    result = finetune(TinyDenoiser(), pictures(), replace(FAST, rank=1, steps=8), silent)
    for delta in result.deltas.values():
        assert torch.linalg.matrix_rank(delta.flatten(1), rtol=1e-4) == 1


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("ema", [True, False])
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    rank: int | None, ema: bool, tmp_path: Path
) -> None:
    config = replace(FAST, steps=7, rank=rank, ema=ema)
    whole = finetune(TinyDenoiser(), pictures(), config, silent)
    path, job = tmp_path / "state.safetensors", finetune_job(config, pictures(), ["k"], "base")

    def save(state: TrainingState) -> None:
        save_training_state(path, state, job)

    def stop(done: int, total: int, message: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(TinyDenoiser(), pictures(), config, stop, checkpoints=Checkpoints(3, save=save))
    state = load_training_state(path, job)
    assert state.step == 3
    steps: list[int] = []
    resumed = finetune(
        TinyDenoiser(),
        pictures(),
        config,
        silent,
        lambda step: steps.append(step.step),
        checkpoints=Checkpoints(0, state),
    )
    assert steps == [4, 5, 6, 7]
    assert resumed.losses == whole.losses
    assert all(torch.equal(delta, whole.deltas[key]) for key, delta in resumed.deltas.items())


def test_a_state_of_other_work_is_refused(tmp_path: Path) -> None:
    jobs = {
        finetune_job(config, pictures(), trained, base)
        for config in (FAST, replace(FAST, least_noise=0.5))
        for trained in (["a"], ["a", "b"])
        for base in ("x", "y")
    }
    assert len(jobs) == 8
    kept = finetune_job(FAST, pictures(), ["a"], "x", retained=pictures())
    assert kept not in jobs
    states: list[TrainingState] = []
    config = replace(FAST, steps=1)
    finetune(
        TinyDenoiser(), pictures(), config, silent, checkpoints=Checkpoints(1, None, states.append)
    )
    save_training_state(tmp_path / "s.safetensors", states[0], "mine")
    with pytest.raises(ConfigError, match="other settings, pictures or models"):
        load_training_state(tmp_path / "s.safetensors", "yours")
    with pytest.raises(ConfigError, match="other weights"):
        finetune(
            TinyDenoiser(),
            pictures(),
            replace(config, rank=1),
            silent,
            checkpoints=Checkpoints(0, states[0]),
        )


def test_zero_terminal_snr_learns() -> None:
    denoiser = TinyDenoiser(prediction="v")
    table = denoiser.schedule.alphas_cumprod.clone()
    table[-1] = 0
    denoiser.schedule = NoiseSchedule(table, "v")
    x0, noise = torch.randn(2, 1, 3, 4, 4).unbind()
    last = torch.tensor([len(table) - 1])
    assert torch.equal(denoiser.schedule.add_noise(x0, noise, last), noise)
    assert torch.equal(denoiser.schedule.target(x0, noise, last), -x0)
    losses = finetune(denoiser, pictures(), FAST, silent).losses
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_8_bit_needs_the_host() -> None:
    with pytest.raises(ConfigError, match="make_optimizer"):
        finetune(TinyDenoiser(), pictures(), replace(FAST, optimizer="adamw8bit"), silent)


def test_cancel_inside_a_step_leaves_nothing() -> None:
    denoiser = TinyDenoiser()
    before = frozen_copy(denoiser)
    calls = []

    def stop(done: int, total: int, message: str) -> None:
        calls.append(done)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(denoiser, pictures(), FAST, stop)
    assert calls == [0, 0, 1, 1]
    assert_untouched(denoiser, before)


def test_bad_loss_names_its_step() -> None:
    denoiser = TinyDenoiser()
    before = frozen_copy(denoiser)
    plain = denoiser.predict

    def spoil(x_t: torch.Tensor, timesteps: torch.Tensor, context: Context) -> torch.Tensor:
        return plain(x_t, timesteps, context) / (0 if len(denoiser.calls) >= 5 else 1)

    denoiser.predict = spoil  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match="step 3 of 60"):
        finetune(denoiser, pictures(), FAST, silent)
    assert_untouched(denoiser, before)


def test_one_picture_and_fewer_than_a_batch_work() -> None:
    for count in (1, 3):
        finetune(TinyDenoiser(), pictures(count, rows=count), replace(FAST, steps=2), silent)


def test_works_inside_the_hosts_inference_mode() -> None:
    plain = finetune(TinyDenoiser(), pictures(), replace(FAST, steps=2), silent)
    denoiser = TinyDenoiser()
    with torch.inference_mode():
        result = finetune(denoiser, pictures(), replace(FAST, steps=2), silent)
    assert result.losses == plain.losses


def test_steps_are_reported() -> None:
    seen: list[FinetuneStep] = []
    finetune(TinyDenoiser(), pictures(), replace(FAST, steps=3), silent, seen.append)
    assert [step.step for step in seen] == [1, 2, 3]
    assert all(step.gradient_norm > 0 for step in seen)


def test_average_follows_the_ramp() -> None:
    assert [ramp(0), ramp(1), ramp(10), ramp(10**9)] == [0, 2 / 11, 11 / 20, 0.9999]
    average = DeltaAverage({"w": torch.zeros(1)})
    for value in (1.0, 2.0):
        average.update({"w": torch.tensor([value])})
    assert average.deltas["w"].item() == pytest.approx(1 + 9 / 11)


def test_all_bad_settings_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        FinetuneConfig(steps=0, batch_size=6, accumulation=4, learning_rate=-1, rank=0)
    for word in ("steps", "accumulation", "learning_rate", "rank"):
        assert word in str(caught.value)


def test_recipe_is_plain_data() -> None:
    recipe = FinetuneConfig(trainable=lambda key: True).recipe()
    assert recipe["steps"] == 200
    assert recipe["betas"] == [0.9, 0.999]
    assert "trainable" not in recipe


def test_a_cosine_rate_starts_whole_is_half_midway_and_never_rises() -> None:
    config = replace(FAST, steps=200, learning_rate=2e-3, rate_schedule="cosine")
    rates = [config.rate(step) for step in range(1, 201)]
    assert rates[0] == 2e-3
    assert rates[100] == pytest.approx(1e-3)
    assert 0 < rates[-1] < 2e-3 * 1e-3
    assert rates == sorted(rates, reverse=True)
    assert {replace(config, rate_schedule="constant").rate(step) for step in (1, 200)} == {2e-3}


def test_the_optimizer_gets_the_rate_of_each_step() -> None:
    config = replace(FAST, steps=4, rate_schedule="cosine")
    seen: list[float] = []

    class Watched(torch.optim.SGD):
        def step(self, *_: object) -> None:
            seen.append(self.param_groups[0]["lr"])

    finetune(
        TinyDenoiser(),
        pictures(),
        config,
        silent,
        make_optimizer=lambda learned, c: Watched(learned, c.learning_rate),
    )
    assert seen == [config.rate(step) for step in (1, 2, 3, 4)]


def test_least_noise_leaves_out_the_clean_end() -> None:
    config = replace(FAST, least_noise=0.4)
    drawn = config.timesteps(2000, 20, torch.Generator().manual_seed(0))
    assert drawn.unique().tolist() == list(range(8, 20))
    every = FAST.timesteps(2000, 20, torch.Generator().manual_seed(0))
    assert every.unique().tolist() == list(range(20))
