from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    Scale,
    latents,
    one_hot,
    schedule,
)
from tverase_core.concept_set import ConceptSet, concept_set
from tverase_core.erasers.stereo import StereoResult, robust_target, slices, stereo
from tverase_core.erasers.stereo_config import StereoConfig
from tverase_core.erasers.teaching import DrawNoised, from_latents, from_sampling
from tverase_core.errors import ConfigError, NonFiniteError
from tverase_core.inversion.config import RANDOM
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
    start=RANDOM,
    sentences=("a {}",),
    attack_decay=0.0,
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

    def encode_with(self, vectors: Mapping[str, Tensor], template: str | Sequence[str]) -> Context:
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


def noised_pictures(denoiser: Denoiser) -> DrawNoised:
    return from_latents(denoiser, latents(6))


def run(
    config: StereoConfig = FAST, denoiser: Denoiser | None = None, **more: object
) -> StereoResult:
    denoiser = denoiser or Denoiser()
    texts = {"concept": CONCEPT, "anchors": SCENE, "null": NULL}
    denoiser_draws = {"draw": noised_pictures(denoiser)}
    given = {"encoder": ENCODER, "pictures": pictures(), **denoiser_draws, **texts, **more}
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
    config = replace(FAST, attack_steps=100, final_steps=800, start="object", seed=7)
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


class Remembering(Denoiser):
    """Keeps the deltas that were attached, in order, as they were when they came off."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Tensor]] = []

    @contextmanager
    def attached(self, deltas: Mapping[str, Tensor]) -> Iterator[Scale]:
        with super().attached(deltas) as handle:
            yield handle
        self.seen.append({key: value.detach().clone() for key, value in deltas.items()})


def test_the_model_erased_before_teaches_the_next_round() -> None:
    """At the start of a round the student is its teacher, so the loss is |e(item) - e(empty)|^2 of
    the model that the round before has erased, since the target is e(empty)."""
    denoiser = Remembering()
    made = run(denoiser=denoiser)
    student, teacher, attacked = denoiser.seen[:3]  # of round 1; its teacher is the base
    assert not teacher
    assert all(torch.equal(student[key], attacked[key]) for key in student)
    items = [CONCEPT, made.attacks[0].contexts(ENCODER)]
    for number, (deltas, item) in enumerate(zip((teacher, attacked), items, strict=True)):
        cross = sum(denoiser.base[key] + deltas.get(key, 0.0) for key in (IN, MIDDLE, OUT))
        expected = float((cross @ item.tokens[0, 0]).square().mean())
        assert made.erase_losses[number][0] == pytest.approx(expected, rel=1e-4)
    further = denoiser.seen[5]  # what round 2 attacks: both rounds' deltas
    assert all(torch.equal(further[k], attacked[k] + denoiser.seen[3][k]) for k in attacked)


def test_the_model_in_training_samples_its_own_pictures() -> None:
    """By default x_t is drawn from the texts with the deltas at work, from noise."""
    denoiser, scales = Denoiser(), []

    def draw(texts: Context, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        scales.append([handle.scale for _, handle in denoiser._attached])
        return latents(len(texts.tokens)), torch.zeros(len(texts.tokens), dtype=torch.int64)

    small = replace(FAST, erase_steps=1, attack_steps=1, final_steps=1)
    run(small, denoiser, draw=draw)
    assert scales == [[1.0, 1.0], [1.0, 1.0], [1.0]]
    sampled, asked = run(small, denoiser, draw=None), from_sampling(denoiser, NULL, (4, 2, 2))
    assert sampled.erase_losses == run(small, denoiser, draw=asked).erase_losses


def test_only_so_many_attacks_are_erased() -> None:
    seen: list[int] = []

    class Counter(Denoiser):
        def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
            seen.append(1)
            return super().predict(x_t, timesteps, context)

    small = replace(FAST, erase_steps=1, attack_steps=1, final_steps=1)
    calls = []
    for used in (0, 1, 2, 4):
        seen.clear()
        run(replace(small, attacks_used=used), Counter())
        calls.append(len(seen))
    assert [count - calls[0] for count in calls] == [0, 1, 2, 2]  # e_j of one item more each


def test_what_was_found_is_erased_as_a_bare_word() -> None:
    assert {found.template for found in run().attacks} == {"{}"}


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


def test_every_anchor_and_every_item_is_used_equally_often() -> None:
    class Recorder(Denoiser):
        def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
            if torch.is_grad_enabled() and x_t.shape[0] == 3:
                shown.extend(context.tokens[:, 0].tolist())
            seen.extend(context.tokens[:, 0].tolist())
            return super().predict(x_t, timesteps, context)

    seen: list[list[float]] = []
    shown: list[list[float]] = []
    scenes = [CONCEPT.tokens + k * one_hot(3).tokens for k in (5, 6, 7)]
    anchors = Context(torch.cat(scenes))
    config = replace(FAST, final_steps=3, batch_size=3)
    made = run(config, Recorder(), anchors=anchors)
    assert [seen.count(scene[0, 0].tolist()) for scene in scenes] == [3, 3, 3]
    items = [item[0].tolist() for item in erase_set(made).tokens]
    last = shown[-9:]  # the student's texts in the last erasing
    assert [last.count(item) for item in items] == [3, 3, 3]


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
    assert not denoiser._attached
    assert all(torch.equal(before[k], denoiser.base[k]) for k in before)


def test_bad_settings_are_reported_together() -> None:
    words = "variant rounds attack_steps final_learning_rate anchor_weight template sentences seed"
    with pytest.raises(ConfigError, match=words.replace(" ", ".*")):
        StereoConfig(
            variant="y",  # type: ignore[arg-type]
            rounds=0,
            attack_steps=0,
            final_learning_rate=float("nan"),
            anchor_weight=-1.0,
            template="a cat",
            sentences=("{} or {}",),
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
