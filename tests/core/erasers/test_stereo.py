from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor

from host_support.fakes_choose import (
    CONV,
    IN,
    MIDDLE,
    OUT,
    WIDTH,
    LinearDenoiser,
    latents,
    one_hot,
    schedule,
)
from tverase_core.concept_set import ConceptSet, concept_set
from tverase_core.erasers.stereo import StereoConfig, StereoResult, robust_target, slices, stereo
from tverase_core.errors import ConfigError, NonFiniteError
from tverase_core.ports import Context, joined

FAST = StereoConfig(
    rounds=2,
    erase_steps=60,
    erase_learning_rate=0.02,
    attack_steps=20,
    attack_learning_rate=0.02,
    final_steps=120,
    final_learning_rate=0.02,
    batch_size=4,
    seed=3,
)
NULL, CONCEPT = one_hot(-1), Context(one_hot(0).tokens + one_hot(1).tokens)
SCENE = Context(CONCEPT.tokens + one_hot(3).tokens)  # the concept in a context


class Denoiser(LinearDenoiser):
    """With predictions that lie in memory as a network's do."""

    def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        return super().predict(x_t, timesteps, context).contiguous()


class WordEncoder:
    """A context is the mean of the vectors in it; the words around them do not count."""

    def __init__(self) -> None:
        self.table = torch.randn(12, WIDTH, generator=torch.Generator().manual_seed(1))
        self.table[0] = 0.5 * one_hot(0).tokens[0, 0]  # "object": a coarse word near the concept

    def widths(self) -> Mapping[str, int]:
        return {"l": WIDTH}

    def word_vectors(self, word: str) -> Mapping[str, Tensor]:
        return {"l": self.table[: len(word.split())]}

    def vocabulary(self, tower: str) -> Tensor:
        return self.table

    def encode(self, texts: Sequence[str]) -> Context:
        return Context(torch.stack([self.table[:2] for _ in texts]))

    def encode_with(self, vectors: Mapping[str, Tensor], template: str) -> Context:
        return Context(vectors["l"].mean(1, keepdim=True).expand(-1, 2, -1))


ENCODER = WordEncoder()


def pictures(count: int = 6) -> ConceptSet:
    return concept_set("cat", latents(count), one_hot(-1))


def planted(count: int = 6) -> ConceptSet:
    """Pictures that the base model explains best under the concept."""
    base = Denoiser().base
    shift = sum(base[key] for key in (IN, MIDDLE, OUT)) @ CONCEPT.tokens[0, 0]
    mean = -torch.linalg.solve(base[CONV], shift) / float(schedule().alphas_cumprod.sqrt().mean())
    return concept_set("cat", mean.view(1, -1, 1, 1) + 0.1 * latents(count), NULL)


def run(
    config: StereoConfig = FAST, denoiser: Denoiser | None = None, **more: object
) -> StereoResult:
    denoiser = denoiser or Denoiser()
    texts = {"concept": CONCEPT, "anchors": SCENE, "null": NULL}
    given = {"encoder": ENCODER, "pictures": pictures(), **texts, **more}
    return stereo(denoiser, denoiser.layout(), config=config, **given)  # type: ignore[arg-type]


def erase_set(made: StereoResult) -> Context:
    return joined(CONCEPT, *(found.contexts(ENCODER) for found in made.attacks))


def test_target_with_known_numbers() -> None:
    denoiser = Denoiser()
    for key in denoiser.base:  # the prediction is now the mean token, whatever x is
        denoiser.base[key] = torch.eye(WIDTH) if key == IN else torch.zeros(WIDTH, WIDTH)
    noised = latents(2), torch.tensor([3, 9])
    anchor, null = one_hot(1, 3), Context(one_hot(0).tokens / 2)
    made = robust_target(denoiser, noised, anchor, one_hot(0, 2), null, StereoConfig())
    # e_0 = (0.5, 0, 0, 0): e_a - 3 * ((0.5, 0, 0.5, 0) - e_0), since the anchor weighs 1
    assert torch.allclose(made[0, :, 0, 0], torch.tensor([0.0, 1.0, -1.5, 0.0]))
    assert torch.allclose(made[1, :, 1, 1], torch.tensor([0.0, 0.0, -1.5, 1.0]))
    weights = StereoConfig(anchor_weight=0.5, negative_weight=1.0)
    made = robust_target(denoiser, noised, anchor, one_hot(0, 2), null, weights)
    assert torch.allclose(made[0, :, 0, 0], torch.tensor([0.25, 0.5, -0.5, 0.0]))


def test_the_erased_model_points_away_from_the_concept_and_from_all_that_was_found() -> None:
    denoiser = Denoiser()
    config = replace(FAST, attack_steps=100, final_steps=500, start="object", seed=4)
    made = run(config, denoiser, pictures=planted())
    assert [len(losses) for losses in made.erase_losses] == [60, 60]
    assert all(losses[-1] < losses[0] for losses in made.erase_losses)
    assert made.final_losses[-1] < 0.001 * made.final_losses[0]
    erased, x, times = erase_set(made), latents(1), torch.tensor([5])
    target = robust_target(denoiser, (x, times), SCENE, erased, NULL, FAST)
    e_0 = denoiser.predict(x, times, NULL)
    for row in range(len(erased.tokens)):
        item = erased.pick(torch.tensor([row]))
        before = denoiser.predict(x, times, item) - e_0
        with denoiser.attached(made.deltas) as attachment:
            attachment.scale = -1.0  # W - 1.0 * delta
            after = denoiser.predict(x, times, item) - e_0
        assert float((before * after).sum()) < 0
        assert torch.allclose(after + e_0, target, atol=0.1)


def test_the_last_stage_starts_from_the_unedited_weights() -> None:
    made = run(replace(FAST, erase_learning_rate=0.5, final_steps=1, final_learning_rate=1e-4))
    # Adam's first step moves no weight by more than its rate.
    assert max(float(delta.abs().max()) for delta in made.deltas.values()) <= 1.01e-4


def test_the_deltas_of_the_first_stage_go_on_from_round_to_round() -> None:
    made = run()
    cross = sum(Denoiser().base[key] for key in (IN, MIDDLE, OUT))
    items = [CONCEPT, made.attacks[0].contexts(ENCODER)]
    unedited = [float((cross @ item.tokens[0, 0]).square().mean()) for item in items]
    first, second = (losses[0] for losses in made.erase_losses)
    assert first == pytest.approx(unedited[0], rel=1e-4)
    assert second != pytest.approx(unedited[1], rel=0.1)


def test_an_attack_meets_the_erased_model() -> None:
    base = run(replace(FAST, rounds=1, erase_learning_rate=1e-12))
    erased = run(replace(FAST, rounds=1, erase_learning_rate=0.05))
    assert not torch.equal(base.attacks[0].vectors["l"], erased.attacks[0].vectors["l"])


def test_slices_are_shares_without_overlap() -> None:
    whole = pictures(7)
    shares = slices(whole, 3, torch.Generator().manual_seed(0))
    rows = [
        {i for i in range(7) for x in share.latents if torch.equal(x, whole.latents[i])}
        for share in shares
    ]
    assert sorted(map(len, rows)) == [2, 2, 3]
    assert not any(a & b for a, b in combinations(rows, 2))
    assert set.union(*rows) == set(range(7))
    assert len({found.objective["concept_set"] for found in run().attacks}) == 2
    with pytest.raises(ConfigError, match=r"2 pictures for 3 rounds. Give 3"):
        slices(pictures(2), 3, torch.Generator())


def test_every_anchor_is_used_equally_often() -> None:
    class Recorder(Denoiser):
        def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
            seen.extend(context.tokens[:, 0].tolist())
            return super().predict(x_t, timesteps, context)

    seen: list[list[float]] = []
    scenes = [CONCEPT.tokens + k * one_hot(3).tokens for k in (5, 6, 7)]
    anchors = Context(torch.cat(scenes))
    run(replace(FAST, final_steps=3, batch_size=4), Recorder(), anchors=anchors)
    assert [seen.count(scene[0, 0].tolist()) for scene in scenes] == [4, 4, 4]


def test_each_variant_moves_only_its_weights() -> None:
    assert set(run().deltas) == {IN, MIDDLE, OUT}
    tiny = replace(FAST, variant="u", erase_steps=2, attack_steps=2, final_steps=2)
    assert set(run(tiny).deltas) == {CONV}


def test_equal_seeds_equal_bits_and_the_base_stays() -> None:
    denoiser, small = Denoiser(), replace(FAST, final_steps=10)
    before = {k: v.clone() for k, v in denoiser.base.items()}
    first, second = run(small, denoiser), run(small, denoiser)
    assert first.erase_losses == second.erase_losses
    assert first.final_losses == second.final_losses
    assert all(torch.equal(first.deltas[k], second.deltas[k]) for k in first.deltas)
    assert run(replace(small, seed=4)).erase_losses != first.erase_losses
    assert all(torch.equal(before[k], denoiser.base[k]) for k in before)


def test_works_inside_inference_mode() -> None:
    small = replace(FAST, erase_steps=2, attack_steps=2, final_steps=2)
    with torch.inference_mode():
        made = run(small)
    outside = run(small)
    assert all(torch.equal(made.deltas[k], outside.deltas[k]) for k in outside.deltas)


def test_progress_counts_all_steps_together() -> None:
    heard: list[tuple[int, int, str]] = []
    run(progress=lambda *words: heard.append(words))
    whole = 2 * (60 + 20) + 120
    assert [done for done, _, _ in heard] == sorted(done for done, _, _ in heard)
    assert {total for _, total, _ in heard} == {whole}
    assert heard[-1][0] == whole
    assert heard[0][2].startswith("STEREO, round 1 of 2, erasing: loss ")


@pytest.mark.parametrize("moment", ["round 1 of 2, erasing", "round 2 of 2, attack", "final"])
def test_cancelling_detaches(moment: str) -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int, message: str) -> None:
        if moment in message:
            raise StopError

    denoiser = Denoiser()
    before = {k: v.clone() for k, v in denoiser.base.items()}
    with pytest.raises(StopError):
        run(FAST, denoiser, progress=stop)
    assert not denoiser._deltas
    assert all(torch.equal(before[k], denoiser.base[k]) for k in before)


def test_bad_settings_are_reported_together() -> None:
    words = r"variant.*rounds.*attack_steps.*final_learning_rate.*anchor_weight.*template.*seed"
    with pytest.raises(ConfigError, match=words):
        StereoConfig(
            variant="y",  # type: ignore[arg-type]
            rounds=0,
            attack_steps=0,
            final_learning_rate=float("nan"),
            anchor_weight=-1.0,
            template="a cat",
            start="object",
            seed=-1,
        )


def test_bad_input_is_refused_before_any_step() -> None:
    def never(*_: object) -> None:
        raise RuntimeError("too late")

    with pytest.raises(ConfigError, match="anchors and one empty prompt, got 1, 0 and 1"):
        run(anchors=one_hot(), progress=never)
    with pytest.raises(ConfigError, match="2 pictures for 4 rounds"):
        run(replace(FAST, rounds=4), pictures=pictures(2), progress=never)
    blank = WordEncoder()
    blank.table[0] = 0.0
    with pytest.raises(ConfigError, match="has no tokens"):
        run(replace(FAST, start="object"), encoder=blank, progress=never)


def test_a_loss_that_is_not_finite_names_stage_step_and_rate() -> None:
    with pytest.raises(NonFiniteError, match=r"round 1 of 2, erasing: .* step 2 of 60.* 1e\+30"):
        run(replace(FAST, erase_learning_rate=1e30))
    with pytest.raises(NonFiniteError, match=r"final erasing: .* at step 2 of 120; use a smaller"):
        run(replace(FAST, final_learning_rate=1e30))
