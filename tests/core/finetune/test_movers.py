"""A step with all gradients at once, or inside the backward pass: the same step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from host_support.fakes_learn import TinyDenoiser, pictures, silent
from tverase_core.errors import ConfigError, NonFiniteError
from tverase_core.finetuning.config import FinetuneConfig
from tverase_core.finetuning.movers import FusedBackward, KeptGradients
from tverase_core.finetuning.train import Checkpoints, FinetuneStep, finetune
from tverase_core.storage.training_state import TrainingState

ONE_PART = FinetuneConfig(steps=6, batch_size=4, accumulation=1, learning_rate=1e-2, seed=5)
CLIPS = {"clipped": 0.05, "left": 1e9}


@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
@pytest.mark.parametrize("changes", [{}, {"rank": 2}, {"ema": False}], ids=["", "rank", "last"])
def test_a_fused_fine_tune_ends_with_the_same_bits(clip: float, changes: dict[str, int]) -> None:
    config = replace(ONE_PART, gradient_clip=clip, rate_schedule="cosine", **changes)
    told: list[list[FinetuneStep]] = [[], []]
    kept, fused = (
        finetune(TinyDenoiser(), pictures(), config, silent, told[how].append, fused=bool(how))
        for how in (0, 1)
    )
    assert told[0] == told[1]
    assert len(told[0]) == config.steps
    assert (told[0][0].gradient_norm > clip) == (clip < 1)
    assert kept.deltas.keys() == fused.deltas.keys()
    assert all(torch.equal(delta, fused.deltas[key]) for key, delta in kept.deltas.items())


def weights() -> list[torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    return [torch.randn(3, 3, generator=source, requires_grad=True) for _ in range(4)]


def loss_of(learned: list[torch.Tensor]) -> torch.Tensor:
    """The first weight acts twice, in the first layer and in the last."""
    x = torch.ones(2, 3)
    for weight in (*learned, learned[0]):
        x = torch.tanh(x @ weight)
    return x.square().sum()


class OneByOne(torch.optim.AdamW):
    """Notes how many of all gradients are there at its step."""

    def __init__(self, own: list[torch.Tensor], everything: list[torch.Tensor], seen: list[int]):
        super().__init__(own)
        self.everything, self.seen = everything, seen

    def step(self, *_: object) -> None:
        self.seen.append(sum(weight.grad is not None for weight in self.everything))
        super().step()


def test_one_gradient_at_a_time_and_no_hook_left() -> None:
    learned, seen = weights(), list[int]()
    mover = FusedBackward(learned, lambda own: OneByOne(own, learned, seen), 1.0)
    for _ in range(2):
        mover.add(loss_of(learned))
        mover.norm()
        mover.move(1e-3)
    assert seen == [1] * 8
    assert not any(weight._post_accumulate_grad_hooks for weight in learned)
    assert all(weight.grad is None for weight in learned)


def test_a_weight_that_acts_twice_moves_once_by_both() -> None:
    moved: list[list[torch.Tensor]] = []
    for kind in (KeptGradients, FusedBackward):
        learned = weights()
        mover = kind(learned, lambda own: torch.optim.SGD(own), 1e9)
        mover.add(loss_of(learned))
        mover.norm()
        mover.move(0.1)
        moved.append(learned)
    assert all(map(torch.equal, *moved))


def test_a_weight_that_no_loss_reaches_stays() -> None:
    learned = [*weights(), torch.ones(2, requires_grad=True)]
    mover = FusedBackward(learned, lambda own: torch.optim.SGD(own), 1e9)
    mover.add(loss_of(learned[:4]))
    wanted = torch.cat(
        [one.flatten() for one in torch.autograd.grad(mover._loss, learned[:4], retain_graph=True)]
    )
    torch.testing.assert_close(mover.norm(), wanted.norm())
    mover.move(0.1)
    assert torch.equal(learned[4], torch.ones(2))


def test_a_bad_gradient_moves_nothing() -> None:
    denoiser = TinyDenoiser()
    plain, learned = denoiser.predict, list[TrainingState]()

    def steep(*given: torch.Tensor) -> torch.Tensor:
        nothing = 0 * denoiser._weight("diffusion_model.in.bias").sum()
        return plain(*given) + nothing.sqrt()  # type: ignore[arg-type]

    denoiser.predict = steep  # type: ignore[assignment, method-assign]
    moved: list[torch.Tensor] = []

    class Noting(torch.optim.SGD):
        def step(self, *_: object) -> None:
            moved.append(self.param_groups[0]["params"][0])

    with pytest.raises(NonFiniteError, match="the gradient became nan at step 1 of 6"):
        finetune(
            denoiser,
            pictures(),
            ONE_PART,
            silent,
            checkpoints=Checkpoints(1, save=learned.append),
            make_optimizer=lambda own, _: Noting(own),
            fused=True,
        )
    assert not moved
    assert not learned


def test_a_fused_run_goes_on_where_any_run_stopped() -> None:
    """States are of one form, so either way may go on with the other's."""
    whole = finetune(TinyDenoiser(), pictures(), ONE_PART, silent)
    for first in (False, True):
        states = list(stopped_at(3, fused=first))
        checkpoints = Checkpoints(0, states[0])
        rest = finetune(
            TinyDenoiser(), pictures(), ONE_PART, silent, checkpoints=checkpoints, fused=not first
        )
        assert rest.losses == whole.losses
        assert all(torch.equal(delta, whole.deltas[key]) for key, delta in rest.deltas.items())


def stopped_at(step: int, fused: bool) -> Iterator[TrainingState]:
    def keep(state: TrainingState) -> None:
        states.append(state)
        raise KeyboardInterrupt

    states: list[TrainingState] = []
    with pytest.raises(KeyboardInterrupt):
        finetune(
            TinyDenoiser(),
            pictures(),
            ONE_PART,
            silent,
            checkpoints=Checkpoints(step, save=keep),
            fused=fused,
        )
    yield from states


def test_more_than_one_loss_a_step_is_refused() -> None:
    parts = replace(ONE_PART, accumulation=2)
    with pytest.raises(ConfigError, match=r"accumulation is 2\. Set accumulation to 1"):
        finetune(TinyDenoiser(), pictures(), parts, silent, fused=True)
    with pytest.raises(ConfigError, match=r"there is a retained set\. Disconnect it"):
        finetune(TinyDenoiser(), pictures(), ONE_PART, silent, retained=pictures(), fused=True)
    without = replace(ONE_PART, steps=1, retained_weight=0.0)
    finetune(TinyDenoiser(), pictures(), without, silent, retained=pictures(), fused=True)
