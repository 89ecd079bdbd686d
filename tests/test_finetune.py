from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.fakes_learn import TinyDenoiser, pictures, silent
from tverase_core.ema import DeltaAverage, ramp
from tverase_core.errors import ConfigError, EmptyMaskError, NonFiniteError
from tverase_core.finetune import FinetuneConfig, FinetuneStep, finetune
from tverase_core.ports import Context

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


def test_plain_gradient_descent_learns_too() -> None:
    config = replace(FAST, optimizer="sgd", learning_rate=0.05)
    losses = finetune(TinyDenoiser(), pictures(), config, silent).losses
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


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
