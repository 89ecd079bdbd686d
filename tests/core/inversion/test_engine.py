from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from host_support.fakes_learn import TinyDenoiser, TinyEncoder, pictures, silent
from tverase_core.errors import ConfigError, FormatError, NonFiniteError
from tverase_core.inversion.attack import concept_inversion
from tverase_core.inversion.config import RANDOM, InversionConfig, paper_intervals
from tverase_core.inversion.cosines import cosines
from tverase_core.inversion.engine import invert, own_seeds
from tverase_core.inversion.files import job_digest
from tverase_core.inversion.inversion_set import InversionSet, encoder_digest
from tverase_core.inversion.space import Space
from tverase_core.ports import Context
from tverase_core.storage.reproducible import write_safetensors
from tverase_core.storage.training_state import (
    TrainingState,
    load_training_state,
    save_training_state,
)

FAST = InversionConfig(count=4, steps=30, learning_rate=3e-2, batch=4, seed=2, judged_draws=64)


def run(config: InversionConfig, **more: object) -> InversionSet:
    return invert(TinyDenoiser(), TinyEncoder(), pictures(), config, silent, **more)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_losses_fall(prediction: str) -> None:
    parts = TinyDenoiser(prediction=prediction), TinyEncoder(), pictures()
    start = invert(*parts, replace(FAST, steps=1), silent)
    end = invert(*parts, replace(FAST, steps=60, diversity=0.0), silent)
    assert bool((end.losses < start.losses).all())
    assert end.vectors["l"].shape == (4, 1, 8)


def test_same_seed_same_bits() -> None:
    first, again, other = run(FAST), run(FAST), run(replace(FAST, seed=3))
    assert torch.equal(first.vectors["l"], again.vectors["l"])
    assert torch.equal(first.losses, again.losses)
    assert not torch.equal(first.vectors["l"], other.vectors["l"])


def test_alone_or_in_company_is_the_same_without_diversity() -> None:
    config = replace(FAST, diversity=0.0)
    together = run(config)
    for k in range(4):
        alone = run(replace(config, count=1), seeds=together.seeds[k : k + 1])
        assert torch.allclose(alone.vectors["l"][0], together.vectors["l"][k], atol=1e-4)
        assert torch.allclose(alone.losses[0], together.losses[k], atol=1e-4)


def test_chunks_only_bound_memory() -> None:
    whole, parts = run(FAST), run(replace(FAST, chunk=3))
    assert torch.allclose(whole.vectors["l"], parts.vectors["l"], atol=1e-4)
    denoiser = TinyDenoiser()
    invert(denoiser, TinyEncoder(), pictures(), replace(FAST, chunk=1), silent)
    assert max(denoiser.calls) == FAST.batch


def test_all_inversions_share_one_forward_pass() -> None:
    denoiser = TinyDenoiser()
    invert(denoiser, TinyEncoder(), pictures(), FAST, silent)
    assert denoiser.calls[: FAST.steps] == [FAST.count * FAST.batch] * FAST.steps


def test_diversity_pushes_apart() -> None:
    def alike(weight: float) -> float:
        found = run(replace(FAST, steps=60, start="cat", diversity=weight, cosine_cap=0.0))
        pairs = cosines(found.vectors["l"], found.vectors["l"])
        return float(pairs.triu(1).clamp_min(0).sum())

    assert alike(3.0) < 0.5 * alike(0.0)


def test_fixed_ones_are_kept_away_from() -> None:
    def nearness(weight: float) -> float:
        config = replace(FAST, count=1, start="cat", diversity=weight, cosine_cap=0.0)
        fixed = {"l": TinyEncoder().word_vectors("cat")["l"][None]}
        return float(cosines(run(config, fixed=fixed).vectors["l"], fixed["l"]))

    assert nearness(3.0) < nearness(0.0) - 0.1


@pytest.mark.parametrize("vectors", [1, 2])
def test_intervals_and_norms_hold_in_every_tower(vectors: int) -> None:
    encoder = TinyEncoder(("l", "g"))
    config = replace(FAST, count=10, vectors=vectors, intervals=paper_intervals())
    spans = torch.tensor(paper_intervals(), dtype=torch.float64)

    def check(state: TrainingState) -> None:
        for tower, value in state.learned.items():
            word = encoder.word_vectors("cat")[tower].double().expand(vectors, -1).flatten()
            flat = value.double().flatten(1)
            cosine = flat @ word / (flat.norm(dim=1) * word.norm())
            assert bool((cosine >= spans[:, 0]).all())
            assert bool((cosine <= spans[:, 1]).all())
            norm = encoder.vocabulary(tower).norm(dim=1).median() * vectors**0.5
            assert torch.allclose(flat.norm(dim=1).float(), norm, rtol=1e-5)

    invert(
        TinyDenoiser(20),
        encoder,
        pictures(),
        config,
        silent,
        on_checkpoint=check,
        checkpoint_every=1,
    )


def test_resume_gives_the_same_bits(tmp_path: Path) -> None:
    ended: list[TrainingState] = []
    whole = run(FAST, on_checkpoint=ended.append)
    job = job_digest(FAST, pictures(), TinyEncoder())
    path = tmp_path / "state.safetensors"

    def stop(done: int, total: int, message: str) -> None:
        if done == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        invert(
            TinyDenoiser(), TinyEncoder(), pictures(), FAST, stop,
            on_checkpoint=lambda state: save_training_state(path, state, job), checkpoint_every=5,
        )  # fmt: skip
    state = load_training_state(path, job)
    assert state.step == 15
    resumed = run(FAST, state=state, on_checkpoint=ended.append)
    assert torch.equal(ended[0].losses, ended[1].losses)
    assert ended[0].losses.shape == (FAST.steps, FAST.count)
    assert torch.equal(resumed.vectors["l"], whole.vectors["l"])
    assert torch.equal(resumed.losses, whole.losses)
    with pytest.raises(ConfigError, match="other settings"):
        load_training_state(path, job_digest(replace(FAST, seed=9), pictures(), TinyEncoder()))
    with pytest.raises(ConfigError, match="state holds 4"):
        run(replace(FAST, count=3), state=state)


def test_a_text_encoder_that_says_something_else_is_another_job() -> None:
    """As a LoRA on it does: its tables are the same."""
    plain, changed = TinyEncoder(), TinyEncoder()
    changed.encode = lambda texts: Context(plain.encode(texts).tokens * 2)  # type: ignore[method-assign]
    assert encoder_digest(plain) == encoder_digest(changed)
    jobs = [job_digest(FAST, pictures(), encoder) for encoder in (plain, TinyEncoder(), changed)]
    assert jobs[0] == jobs[1] != jobs[2]


@pytest.mark.parametrize(
    ("every", "heard"), [(0, [30]), (20, [20, 30]), (50, [30])], ids=["at the end", "20", "never"]
)
def test_checkpoints_come_every_so_many_steps_and_at_the_end(every: int, heard: list[int]) -> None:
    steps: list[int] = []
    invert(
        TinyDenoiser(), TinyEncoder(), pictures(), FAST, silent,
        on_checkpoint=lambda state: steps.append(state.step), checkpoint_every=every,
    )  # fmt: skip
    assert steps == heard


@pytest.mark.parametrize(
    "tensors",
    [{}, {"learned/l": torch.zeros(1, 1, 4)}, {"moments/step/l": torch.ones(())},
     {"other/l": torch.zeros(1)}],
    ids=["nothing", "no moments", "moments alone", "a foreign part"],
)  # fmt: skip
def test_half_a_state_is_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    told = {"tverase.kind": "training_state", "tverase.job": "x", "tverase.step": "1"}
    write_safetensors(path, {**tensors, "losses": torch.zeros(1, 1)}, told)
    with pytest.raises(FormatError, match="no whole state of unfinished work"):
        load_training_state(path, "x")


def test_the_first_step_is_adams() -> None:
    """Each value moves by the rate, whatever the size of its gradient (arXiv 1412.6980, 2.1)."""
    config = replace(FAST, count=1, diversity=0.0, learning_rate=0.02, steps=1)
    start = Space(TinyEncoder(), "cat", config).start(own_seeds(config))["l"]
    moved = (run(config).vectors["l"] - start).abs()
    assert torch.allclose(moved, torch.tensor(0.02), rtol=1e-3)


def test_the_rate_falls_to_its_share_along_half_a_cosine() -> None:
    config = replace(FAST, learning_rate=0.02, final_rate=0.1, steps=100)
    assert [config.rate(step) for step in (1, 51)] == pytest.approx([0.02, 0.011])
    assert 0.002 < config.rate(100) < 0.00201
    assert replace(config, final_rate=1.0).rate(100) == 0.02


@pytest.mark.parametrize("start", [RANDOM, "cat"])
def test_each_seed_has_a_start_of_its_own(start: str) -> None:
    space = Space(TinyEncoder(), "cat", replace(FAST, start=start, vectors=3))
    first, second, again = space.start(torch.tensor([5, 6, 5]))["l"]
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_a_row_of_zeros_is_never_a_start() -> None:
    class Padded(TinyEncoder):
        def vocabulary(self, tower: str) -> Tensor:
            table = super().vocabulary(tower).clone()
            table[:-1] = 0
            return table

    started = Space(Padded(), "cat", FAST).start(torch.arange(FAST.count))
    assert all(bool((value.flatten(1).norm(dim=1) > 0).all()) for value in started.values())

    class Empty(TinyEncoder):
        def vocabulary(self, tower: str) -> Tensor:
            return torch.zeros_like(super().vocabulary(tower))

    with pytest.raises(ConfigError, match="every row of the text encoder's table 'l' is zero"):
        Space(Empty(), "cat", FAST)


def test_bad_loss_names_step_and_inversion() -> None:
    denoiser = TinyDenoiser()
    plain = denoiser.predict

    def spoil(x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        out = plain(x_t, timesteps, context).clone()
        if len(denoiser.calls) == 3:
            out[FAST.batch] *= float("nan")
        return out

    denoiser.predict = spoil  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match=r"number 1 is NaN or infinite at step 3 of 30"):
        invert(denoiser, TinyEncoder(), pictures(), FAST, silent)


def test_works_in_inference_mode_and_leaves_global_random_state() -> None:
    before, plain = torch.get_rng_state(), run(FAST)
    parts = TinyDenoiser(), TinyEncoder(), pictures()
    with torch.inference_mode():
        inside = invert(*parts, FAST, silent)
    assert torch.equal(plain.vectors["l"], inside.vectors["l"])
    assert torch.equal(before, torch.get_rng_state())


def test_each_inversion_has_one_timestep_in_every_stratum() -> None:
    """20 timesteps and 4 pictures a step: one of 0 to 4, one of 5 to 9, and so on."""
    denoiser, seen = TinyDenoiser(), list[Tensor]()
    plain = denoiser.predict

    def watched(x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        seen.append(timesteps)
        return plain(x_t, timesteps, context)

    denoiser.predict = watched  # type: ignore[method-assign]
    invert(denoiser, TinyEncoder(), pictures(), FAST, silent)
    steps = torch.stack(seen[: FAST.steps]).view(-1, FAST.batch)  # what follows are final losses
    assert torch.equal(steps // 5, torch.arange(4).expand_as(steps))
    assert steps.unique().tolist() == list(range(20))
    first, second, *_ = steps.view(FAST.steps, FAST.count, FAST.batch).unbind(1)
    assert not torch.equal(first, second)  # each has draws of its own


@pytest.mark.parametrize("steps", [1, 3, 20])
@pytest.mark.parametrize("final", [1.0, 0.0])
def test_under_a_constant_slope_every_step_goes_as_far_as_its_rate(
    steps: int, final: float
) -> None:
    """arXiv 1412.6980, section 2.1: what the correction of both moments is for. The rate falls to
    `final_rate` along half a cosine."""
    denoiser = TinyDenoiser()

    def sloping(x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        told = context.tokens.sum((1, 2)).view(-1, 1, 1, 1)
        return (1e6 + told).expand(x_t.shape)

    denoiser.predict = sloping  # type: ignore[method-assign]
    config = replace(FAST, steps=steps, learning_rate=1e-4, diversity=0.0, final_rate=final)
    fall = [(1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
    far = 1e-4 * sum(final + (1 - final) * share for share in fall)
    parts = denoiser, TinyEncoder(), pictures()
    start = invert(*parts, replace(config, learning_rate=1e-12), silent).vectors["l"]
    moved = (invert(*parts, config, silent).vectors["l"] - start).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, far), rtol=0.02, atol=0)


def test_concept_inversion_has_no_diversity_term() -> None:
    config = replace(FAST, count=1, intervals=((0.2, 0.4),))
    found = concept_inversion(TinyDenoiser(), TinyEncoder(), pictures(), config, silent)
    assert found.objective["diversity"] == 0
    assert found.objective["intervals"] is None
    assert found.max_cosine() is None
    assert found.text_encoder == encoder_digest(TinyEncoder())


def test_all_bad_settings_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        InversionConfig(
            count=2,
            steps=0,
            learning_rate=0,
            template="a cat",
            intervals=((0.5, 0.2),),
            cosine_floor=0.3,
        )
    for word in ("steps", "learning_rate", "template", "(0.5, 0.2)", "1 for 2", "cosine_floor"):
        assert word in str(caught.value)
