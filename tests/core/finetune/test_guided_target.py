"""Targets that the base itself predicts under guidance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from host_support.fakes_learn import TOKENS, TinyDenoiser, pictures, silent
from tverase_core.concept_set import ConceptSet, Guide, concept_set
from tverase_core.errors import ConfigError, NonFiniteError
from tverase_core.finetuning.batches import Part, batches
from tverase_core.finetuning.config import FinetuneConfig
from tverase_core.finetuning.guided_target import guided_target
from tverase_core.finetuning.train import FinetuneResult, finetune
from tverase_core.ports import Context

FAST = FinetuneConfig(
    steps=80, batch_size=8, accumulation=2, learning_rate=1e-2, seed=5, guidance=2.0, flip=False
)
SOURCE = torch.Generator().manual_seed(11)
EMPTY, CAT, OTHER, KITTEN = (Context(t[None]) for t in torch.randn(4, TOKENS, 8, generator=SOURCE))


def rows(*texts: Context) -> Context:
    return Context(torch.cat([text.tokens for text in texts]))


def cats(shown: Context = EMPTY, guide: Guide | None = None) -> ConceptSet:
    guide = guide or Guide(CAT, EMPTY)
    return concept_set("cat", pictures().latents, shown, EMPTY, guide)


def one_part(shown: Context) -> Part:
    return next(batches(TinyDenoiser(), cats(shown), replace(FAST, accumulation=1)))[0]


def deltas_of(denoiser: TinyDenoiser) -> Mapping[str, Tensor]:
    return {key: torch.ones(shape) for key, shape in denoiser.weight_shapes().items()}


@pytest.mark.parametrize("shown", [EMPTY, CAT, OTHER], ids=["contrast", "prompt", "a third text"])
def test_target_by_hand(shown: Context) -> None:
    denoiser, part = TinyDenoiser(), one_part(shown)
    assert part.guide
    with denoiser.attached(deltas_of(denoiser)) as attachment:
        got = guided_target(denoiser, attachment, part, part.guide, 3.0)
        assert attachment.scale == 1.0

    def base(text: Context) -> Tensor:
        return denoiser.predict(part.x_t, part.timesteps, text.pick(torch.zeros(8).long()))

    expected = base(shown) + 3.0 * (base(CAT) - base(EMPTY))
    assert torch.allclose(got, expected, atol=1e-6)


def test_rows_shown_under_different_texts_have_their_own_targets() -> None:
    mixed = rows(EMPTY, CAT, OTHER, CAT, OTHER, EMPTY, CAT, OTHER)
    denoiser, part = TinyDenoiser(), one_part(mixed)
    assert part.guide
    with denoiser.attached(deltas_of(denoiser)) as attachment:
        got = guided_target(denoiser, attachment, part, part.guide, 0.0)
    assert torch.allclose(got, denoiser.predict(part.x_t, part.timesteps, part.context), atol=1e-6)


def test_scale_is_given_back_when_the_model_fails() -> None:
    denoiser, part = TinyDenoiser(), one_part(EMPTY)
    assert part.guide

    def failing(*_: object) -> Tensor:
        raise RuntimeError("out of memory")

    with denoiser.attached(deltas_of(denoiser)) as attachment:
        denoiser.predict = failing  # type: ignore[method-assign]
        with pytest.raises(RuntimeError):
            guided_target(denoiser, attachment, part, part.guide, 3.0)
        assert attachment.scale == 1.0


def pull(denoiser: TinyDenoiser, result: FinetuneResult, strength: float) -> float:
    """How far the prediction at CFG 2 lies from the base's without text, along what guidance adds,
    as a share of that; 1 for the base at CFG 1."""
    part, empty = one_part(EMPTY), EMPTY.pick(torch.zeros(8).long())
    with torch.no_grad(), denoiser.attached(result.deltas) as attachment:
        predicted = {}
        for scale in (0.0, -strength):
            attachment.scale = scale
            predicted[scale] = [
                denoiser.predict(part.x_t, part.timesteps, text)
                for text in (CAT.pick(torch.zeros(8).long()), empty)
            ]
    (base_cat, base_empty), (cat, bare) = predicted[0.0], predicted[-strength]
    direction = base_cat - base_empty
    drawn = bare + FAST.guidance * (cat - bare)
    return float(((drawn - base_empty) * direction).sum() / direction.square().sum())


def test_strength_one_takes_the_pull_of_guidance_away() -> None:
    denoiser = TinyDenoiser()
    shown = rows(*[EMPTY, CAT] * 4)
    config = replace(FAST, steps=400, rate_schedule="cosine", ema=False, weight_decay=0.0)
    result = finetune(denoiser, cats(shown), config, silent)
    assert result.losses[-1] < 0.05 * result.losses[0]
    nothing = finetune(denoiser, cats(shown), replace(config, steps=1, learning_rate=1e-9), silent)
    assert pull(denoiser, nothing, 1.0) == pytest.approx(FAST.guidance, abs=1e-3)
    assert pull(denoiser, result, 1.0) == pytest.approx(0.0, abs=0.35)


def test_same_seed_same_bits_and_other_bits_than_without_guidance() -> None:
    config = replace(FAST, steps=5)
    first, again = (finetune(TinyDenoiser(), cats(), config, silent) for _ in range(2))
    plain = finetune(TinyDenoiser(), cats(), replace(config, guidance=0.0), silent)
    for key, delta in first.deltas.items():
        assert torch.equal(delta, again.deltas[key])
        assert not torch.equal(delta, plain.deltas[key])


def test_without_guidance_a_guide_changes_nothing() -> None:
    config = replace(FAST, steps=5, guidance=0.0)
    plain = finetune(
        TinyDenoiser(), concept_set("cat", pictures().latents, EMPTY, EMPTY), config, silent
    )
    guided = finetune(TinyDenoiser(), cats(), config, silent)
    assert all(torch.equal(delta, guided.deltas[key]) for key, delta in plain.deltas.items())


def test_prompts_take_turns_as_the_pictures_do() -> None:
    guide = Guide(rows(CAT, KITTEN), EMPTY).of(torch.tensor([0, 1, 2, 5]))
    assert torch.equal(guide.prompts.tokens, rows(CAT, KITTEN, CAT, KITTEN).tokens)
    assert torch.equal(guide.contrasts.tokens, rows(EMPTY, EMPTY, EMPTY, EMPTY).tokens)


def test_the_guide_is_part_of_the_digest() -> None:
    assert cats().digest != cats(guide=Guide(KITTEN, EMPTY)).digest
    assert cats().digest != cats(guide=Guide(CAT, OTHER)).digest


def test_guidance_without_a_prompt_is_refused_before_anything_is_drawn() -> None:
    denoiser = TinyDenoiser()
    with pytest.raises(ConfigError, match=r"guidance is 2.*caption"):
        finetune(denoiser, pictures(), FAST, silent)
    assert not denoiser.calls


def test_a_broken_guide_is_refused() -> None:
    with pytest.raises(NonFiniteError, match="prompts tokens"):
        cats(guide=Guide(Context(CAT.tokens / 0), EMPTY))


@pytest.mark.parametrize("guidance", [-1.0, 101.0, float("nan")])
def test_guidance_out_of_range_is_refused(guidance: float) -> None:
    with pytest.raises(ConfigError, match="guidance: expected 0 to 100"):
        FinetuneConfig(guidance=guidance)
