from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from host_support.fakes_learn import TinyDenoiser, pictures, silent
from host_support.tiny_core import tiny_schedule
from tverase_core.errors import ConfigError, EmptyMaskError, NonFiniteError
from tverase_core.finetuning.average import DeltaAverage, ramp
from tverase_core.finetuning.batches import Part, batches
from tverase_core.finetuning.config import FinetuneConfig
from tverase_core.finetuning.low_rank import LowRankDeltas, starting_factors
from tverase_core.finetuning.train import Checkpoints, FinetuneStep, finetune, finetune_job
from tverase_core.ports import Context
from tverase_core.schedule import FlowSchedule, NoiseSchedule, logit_normal
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


def test_a_torch_that_fuses_on_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 2.4; the plain optimizer learns the same but for rounding."""
    few = replace(FAST, steps=5)
    fused = finetune(TinyDenoiser(), pictures(), few, silent)
    real, asked = torch.optim.AdamW, list[bool]()

    def older(*given: object, **settings: bool) -> torch.optim.Optimizer:
        asked.append(settings.get("fused", False))
        if asked[-1]:
            raise RuntimeError("`fused=True` requires all the params to be on a GPU")
        return real(*given, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.optim, "AdamW", older)
    plain = finetune(TinyDenoiser(), pictures(), few, silent)
    assert asked == [True, False]
    for key, delta in fused.deltas.items():
        torch.testing.assert_close(delta, plain.deltas[key], rtol=1e-3, atol=1e-6)


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    finetune(TinyDenoiser(), pictures(), replace(FAST, steps=2), silent)
    assert torch.equal(before, torch.get_rng_state())


def test_parts_of_a_step_do_not_change_the_result() -> None:
    whole, parts = (
        finetune(TinyDenoiser(), pictures(), replace(FAST, steps=5, accumulation=a), silent)
        for a in (1, 4)
    )
    # AdamW forgives a gradient of another size; the loss does not.
    assert parts.losses == pytest.approx(whole.losses, rel=1e-5)
    for key, delta in whole.deltas.items():
        assert torch.allclose(delta, parts.deltas[key], atol=1e-5)


def test_first_step_of_adam_by_hand() -> None:
    config = replace(FAST, steps=1, ema=False, weight_decay=0.0, gradient_clip=1e9)
    result = finetune(TinyDenoiser(), pictures(), config, silent)
    moved = torch.cat([delta.flatten() for delta in result.deltas.values()])
    assert torch.allclose(moved.abs(), torch.tensor(0.01), atol=1e-4)


def test_weight_decay_shrinks_the_delta_by_hand() -> None:
    """From zero the first step has nothing to shrink, so the second gradient is that without decay:
    what is left over is rate * decay * (delta after step 1), arXiv 1711.05101, algorithm 2."""
    config = replace(FAST, steps=2, ema=False, weight_decay=0.0)
    free = finetune(TinyDenoiser(), pictures(), config, silent).deltas
    first = finetune(TinyDenoiser(), pictures(), replace(config, steps=1), silent).deltas
    decayed = finetune(TinyDenoiser(), pictures(), replace(config, weight_decay=0.5), silent).deltas
    for key, delta in decayed.items():
        torch.testing.assert_close(delta, free[key] - 1e-2 * 0.5 * first[key], atol=1e-7, rtol=0)


class Watched(torch.optim.SGD):
    """Notes what it is given and moves nothing."""

    def __init__(self, learned: list[torch.Tensor], config: FinetuneConfig):
        super().__init__(learned, config.learning_rate)
        self.rates: list[float] = []
        self.norms: list[float] = []

    def step(self, *_: object) -> None:
        group = self.param_groups[0]
        self.rates.append(group["lr"])
        gradients = [value.grad.flatten() for value in group["params"]]
        self.norms.append(float(torch.cat(gradients).norm()))


def watched(config: FinetuneConfig) -> tuple[Watched, list[FinetuneStep]]:
    made: list[Watched] = []
    steps: list[FinetuneStep] = []

    def make(learned: list[torch.Tensor], given: FinetuneConfig) -> Watched:
        made.append(Watched(learned, given))
        return made[0]

    finetune(TinyDenoiser(), pictures(), config, silent, steps.append, make_optimizer=make)
    return made[0], steps


def test_a_long_gradient_is_cut_to_the_clip_and_a_short_one_is_left() -> None:
    whole, told = watched(replace(FAST, steps=4, gradient_clip=1e9))
    norms = [step.gradient_norm for step in told]
    assert whole.norms == pytest.approx(norms, rel=1e-5)
    clip = sorted(norms)[1] * 1.001  # two of the four are longer
    cut, told = watched(replace(FAST, steps=4, gradient_clip=clip))
    assert [step.gradient_norm for step in told] == norms  # told as they were before
    assert cut.norms == pytest.approx([min(norm, clip) for norm in norms], rel=1e-4)


@pytest.mark.parametrize("flip", [True, False])
def test_half_of_the_pictures_are_mirrored_left_to_right(flip: bool) -> None:
    latents, mirrored = pictures().latents, 0
    drawn = batches(TinyDenoiser(), pictures(), replace(FAST, flip=flip))
    for part in (part for _ in range(20) for part in next(drawn)):
        for picture in without_noise(part):
            plain, turned = (like(picture, all_) for all_ in (latents, latents.flip(-1)))
            assert len(plain) + len(turned) == 1
            mirrored += len(turned)
    assert 60 < mirrored < 100 if flip else mirrored == 0  # of 160


def without_noise(part: Part) -> torch.Tensor:
    """The pictures of a part of epsilon prediction, whose target is the noise."""
    a = TinyDenoiser().schedule.alphas_cumprod[part.timesteps].float().view(-1, 1, 1, 1)
    return (part.x_t - (1 - a).sqrt() * part.target) / a.sqrt()


def like(picture: torch.Tensor, latents: torch.Tensor) -> list[int]:
    """The numbers of the latents that are this picture."""
    return ((latents - picture).abs().amax((1, 2, 3)) < 1e-3).nonzero()[:, 0].tolist()


def test_every_picture_comes_before_any_comes_again_and_has_its_own_caption() -> None:
    few = pictures(6, rows=6)
    drawn = batches(TinyDenoiser(), few, replace(FAST, batch_size=4, flip=False))
    seen: list[int] = []
    for part in (part for _ in range(3) for part in next(drawn)):
        numbers = [
            number for picture in without_noise(part) for number in like(picture, few.latents)
        ]
        assert torch.equal(part.context.tokens, few.contexts.tokens[numbers])
        seen += numbers
    assert sorted(seen[:6]) == sorted(seen[6:]) == list(range(6))


def test_without_memory_adam_goes_the_whole_rate_at_every_step() -> None:
    """betas (0, 0): a step is the sign of the gradient alone, arXiv 1412.6980, algorithm 1."""
    config = replace(FAST, steps=3, betas=(0.0, 0.0), ema=False, weight_decay=0.0)
    for delta in finetune(TinyDenoiser(), pictures(), config, silent).deltas.values():
        steps = delta.abs().div(1e-2).round(decimals=1)  # epsilon counts where slopes are small
        assert set(steps.unique().tolist()) <= {1.0, 3.0}


def test_what_is_returned_is_the_moving_average_of_every_step() -> None:
    learned: list[dict[str, torch.Tensor]] = []

    def keep(state: TrainingState) -> None:
        learned.append({name: value.clone() for name, value in state.learned.items()})

    config = replace(FAST, steps=4)
    result = finetune(
        TinyDenoiser(), pictures(), config, silent, checkpoints=Checkpoints(1, save=keep)
    )
    for key, delta in result.deltas.items():
        mean = learned[0][key]
        for updates, state in enumerate(learned[1:], 1):
            mean = mean + (1 - (1 + updates) / (10 + updates)) * (state[key] - mean)
        torch.testing.assert_close(delta, mean)
        assert not torch.allclose(delta, learned[-1][key])


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


def test_factors_start_at_a_delta_of_zero_and_are_no_larger_than_needed() -> None:
    shapes = {"a": torch.Size((4, 3)), "b": torch.Size((2, 3, 3, 3))}
    first, other = (starting_factors(shapes, 99, seed, torch.device("cpu")) for seed in (0, 1))
    assert {k: tuple(v.shape) for k, v in first.items()} == {
        "a/up": (4, 3),
        "a/down": (3, 3),
        "b/up": (2, 2),
        "b/down": (2, 27),
    }
    assert not any(bool(delta.any()) for delta in LowRankDeltas(shapes, first).values())
    assert not torch.equal(first["b/down"], other["b/down"])


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


def test_bad_gradient_of_a_good_loss_names_its_step() -> None:
    denoiser = TinyDenoiser()
    plain = denoiser.predict

    def steep(x_t: torch.Tensor, timesteps: torch.Tensor, context: Context) -> torch.Tensor:
        nothing = 0 * denoiser._weight("diffusion_model.in.bias").sum()
        return plain(x_t, timesteps, context) + nothing.sqrt()  # of infinite slope at 0

    denoiser.predict = steep  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match=r"the gradient became nan at step 1 of 60\."):
        finetune(denoiser, pictures(), FAST, silent)


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
    assert set(recipe) == {field.name for field in fields(FinetuneConfig)} - {"trainable"}


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
    assert watched(config)[0].rates == [config.rate(step) for step in (1, 2, 3, 4)]


def test_least_noise_leaves_out_the_clean_end() -> None:
    schedule = tiny_schedule(steps=20)
    config = replace(FAST, least_noise=0.4)
    drawn = config.timesteps(2000, schedule, torch.Generator().manual_seed(0))
    assert drawn.unique().tolist() == list(range(8, 20))
    every = FAST.timesteps(2000, schedule, torch.Generator().manual_seed(0))
    assert every.unique().tolist() == list(range(20))


def test_logit_normal_sampling_leaves_the_clean_end_out_too() -> None:
    config = replace(FAST, least_noise=0.4, noise_sampling="logit_normal")
    drawn = config.timesteps(4000, FlowSchedule(), torch.Generator().manual_seed(0))
    assert 0.4 <= float(drawn.min()) < 0.41
    assert torch.allclose(
        drawn.double().median(), logit_normal(torch.tensor([0.5]), 0.4), atol=0.01
    )
