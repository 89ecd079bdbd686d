"""Keeping what must stay while a concept is learned."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from host_support.fakes_learn import TinyDenoiser, pictures, silent
from tverase_core.concept_set import ConceptSet, concept_set
from tverase_core.errors import ConfigError, ShapeMismatchError
from tverase_core.finetuning.config import FinetuneConfig
from tverase_core.finetuning.retention import mixed, retention_losses
from tverase_core.finetuning.train import FinetuneResult, finetune
from tverase_core.ports import Context

FAST = FinetuneConfig(steps=40, batch_size=8, accumulation=2, learning_rate=1e-2, seed=5)
HEAVY = replace(FAST, retained_weight=30.0)


def others() -> ConceptSet:
    """Pictures unlike the concept's, each under a caption of its own."""
    source = torch.Generator().manual_seed(3)
    latents = torch.randn(6, *pictures().latents.shape[1:], generator=source) - 2
    width = pictures().contexts.tokens.shape[-1]
    return concept_set("others", latents, Context(torch.randn(6, 6, width, generator=source)))


def harm(denoiser: TinyDenoiser, result: FinetuneResult, strength: float) -> float:
    """Mean squared change of the predictions on the retained set, vector subtracted."""
    kept, source = others(), torch.Generator().manual_seed(9)
    noise = torch.randn(kept.latents.shape, generator=source)
    times = torch.arange(6) * 3
    shown = denoiser.schedule.add_noise(kept.latents, noise, times), times, kept.contexts
    with torch.no_grad(), denoiser.attached(result.deltas) as attachment:
        attachment.scale = 0.0
        before = denoiser.predict(*shown)
        attachment.scale = -strength
        return float((denoiser.predict(*shown) - before).square().mean())


def test_subtracting_harms_the_retained_set_less() -> None:
    denoiser = TinyDenoiser()
    plain = finetune(denoiser, pictures(), FAST, silent)
    kept = finetune(denoiser, pictures(), HEAVY, silent, retained=others())
    assert harm(denoiser, kept, 1.0) < 0.3 * harm(denoiser, plain, 1.0)
    assert sum(kept.losses[-5:]) < sum(kept.losses[:5])  # and the concept is learned all the same


def test_pictures_of_another_model_are_refused_before_the_first_step() -> None:
    kept = others()
    wider = concept_set("others", kept.latents, Context(torch.zeros(1, 6, 99)))
    deeper = concept_set("others", kept.latents.repeat(1, 2, 1, 1), kept.contexts)
    for other, told in ((wider, "the retained set has"), (deeper, "latent channels")):
        with pytest.raises(ShapeMismatchError, match=told):
            finetune(TinyDenoiser(), pictures(), FAST, never, retained=other)


def never(done: int, total: int, message: str) -> None:
    raise AssertionError("a step was begun")


def test_weight_zero_is_no_retained_set_at_all() -> None:
    plain = finetune(TinyDenoiser(), pictures(), FAST, silent)
    config = replace(FAST, retained_weight=0.0)
    kept = finetune(TinyDenoiser(), pictures(), config, silent, retained=others())
    assert all(torch.equal(delta, kept.deltas[key]) for key, delta in plain.deltas.items())


def test_same_seed_same_bits() -> None:
    first, again = (
        finetune(TinyDenoiser(), pictures(), HEAVY, silent, retained=others()) for _ in range(2)
    )
    assert all(torch.equal(delta, again.deltas[key]) for key, delta in first.deltas.items())


def test_the_attachment_is_given_back_at_full_strength_also_when_stopped() -> None:
    denoiser = TinyDenoiser()
    deltas = {k: torch.zeros(s) for k, s in denoiser.weight_shapes().items()}
    with denoiser.attached(deltas) as attachment:
        losses = retention_losses(denoiser, attachment, pictures(), others(), FAST, 1)
        next(losses)
        assert -FAST.retained_strength <= attachment.scale <= 0
        losses.close()
        assert attachment.scale == 1.0


def test_untouched_model_has_no_retention_loss() -> None:
    denoiser = TinyDenoiser()
    deltas = {k: torch.zeros(s) for k, s in denoiser.weight_shapes().items()}
    with denoiser.attached(deltas) as attachment:
        losses = list(retention_losses(denoiser, attachment, pictures(), others(), FAST, 1))
    assert len(losses) == FAST.accumulation
    assert all(float(loss) == 0.0 for loss in losses)


@pytest.mark.parametrize("parts", [1, 4])
def test_the_losses_of_a_step_by_hand(parts: int) -> None:
    """Their sum is retained_weight times the mean squared change of the predictions."""
    denoiser = TinyDenoiser()
    asked: list[tuple[float, Tensor]] = []
    predict = denoiser.predict

    def watched(x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        found = predict(x_t, timesteps, context)
        asked.append((attachment.scale, found.detach()))
        return found

    denoiser.predict = watched  # type: ignore[method-assign]
    source = torch.Generator().manual_seed(8)
    deltas = {
        k: 0.1 * torch.randn(s, generator=source) for k, s in denoiser.weight_shapes().items()
    }
    config = replace(FAST, retained_weight=0.7, accumulation=parts)
    with denoiser.attached(deltas) as attachment:
        losses = list(retention_losses(denoiser, attachment, pictures(), others(), config, 1))
    base = torch.cat([found for scale, found in asked if scale == 0])
    erased = torch.cat([found for scale, found in asked if scale < 0])
    expected = 0.7 * float((erased - base).square().mean())
    assert expected > 1e-4
    assert float(sum(losses)) == pytest.approx(expected, rel=1e-5)


def test_retained_pictures_are_shown_under_their_own_caption_or_none() -> None:
    source = torch.Generator().manual_seed(4)
    shape = others().contexts.tokens.shape
    captions, empty = (Context(torch.randn(shape, generator=source)[:n]) for n in (6, 1))
    concept = concept_set("cat", others().latents, captions, empty)
    denoiser, seen = TinyDenoiser(), set()
    predict = denoiser.predict

    def watched(x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        seen.update(tuple(row.flatten().tolist()) for row in context.tokens)
        return predict(x_t, timesteps, context)

    denoiser.predict = watched  # type: ignore[method-assign]
    deltas = {k: torch.zeros(s) for k, s in denoiser.weight_shapes().items()}
    with denoiser.attached(deltas) as attachment:
        for step in range(6):
            list(retention_losses(denoiser, attachment, concept, others(), FAST, step))
    shown = [*others().contexts.tokens, *empty.tokens]
    assert seen == {tuple(row.flatten().tolist()) for row in shown}


def test_mixed_takes_rows_from_either() -> None:
    first, second = Context(torch.zeros(3, 2, 4)), Context(torch.ones(3, 2, 4))
    rows = mixed(first, second, torch.tensor([False, True, False])).tokens
    assert rows[:, 0, 0].tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("bad", [{"retained_weight": -1.0}, {"retained_strength": 0.0}])
def test_settings_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        FinetuneConfig(**bad)  # type: ignore[arg-type]
