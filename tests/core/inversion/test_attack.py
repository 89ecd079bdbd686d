"""The attack as published, and what its result may be called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from host_support.fakes_learn import TinyDenoiser, TinyEncoder, pictures, silent
from tverase_core.errors import ConfigError
from tverase_core.inversion.attack import JUDGED, Leak, concept_inversion
from tverase_core.inversion.config import RANDOM, InversionConfig
from tverase_core.inversion.engine import own_seeds
from tverase_core.inversion.inversion_set import InversionSet
from tverase_core.inversion.space import START_NOISE, Space
from tverase_core.ports import Context
from tverase_core.sentences import OBJECT_SENTENCES, SENTENCES

FAST = InversionConfig(count=3, steps=12, learning_rate=3e-2, batch=4, seed=2, diversity=0.0)


class Listening(TinyEncoder):
    """Remembers the sentences that it was asked for, and for how many embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, int]] = []

    def encode_with(self, vectors: Mapping[str, Tensor], template: str | Sequence[str]) -> Context:
        if isinstance(template, str):
            self.heard.append((template, len(vectors["l"])))
        return super().encode_with(vectors, template)


def run(config: InversionConfig, encoder: TinyEncoder | None = None) -> InversionSet:
    encoder = encoder or TinyEncoder()
    return concept_inversion(TinyDenoiser(), encoder, pictures(), config, silent)


def test_one_sentence_is_that_template() -> None:
    """Drawing from one sentence is the template: the same vectors, up to the order of sums."""
    plain, told = run(FAST), run(replace(FAST, sentences=("a {}",)))
    assert torch.allclose(plain.vectors["l"], told.vectors["l"], atol=1e-6)
    assert torch.allclose(plain.losses, told.losses, atol=1e-6)


def test_each_picture_is_shown_under_a_sentence_of_its_own() -> None:
    encoder = Listening()
    run(replace(FAST, steps=6, sentences=("a {}", "the {}", "{}")), encoder)
    final = FAST.count * 3  # 32 judged draws are three batches for each inversion
    in_training = encoder.heard[:-final]
    assert {sentence for sentence, _ in in_training} == {"a {}", "the {}", "{}"}
    assert sum(count for _, count in in_training) == 6 * FAST.count * FAST.batch
    assert {sentence for sentence, _ in encoder.heard[-final:]} == {"a {}"}


def test_a_picture_meets_the_sentence_that_was_drawn_for_it() -> None:
    """The loss under two sentences is the mean of its pictures' losses under their own."""
    both = replace(FAST, count=1, steps=1, batch=64, learning_rate=1e-9, sentences=("a {}", "{}"))
    seen: dict[bytes, Tensor] = {}

    class Remembering(TinyDenoiser):
        def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
            for row, x in zip(context.tokens, x_t, strict=True):
                seen.setdefault(x.detach().numpy().tobytes(), row.detach())
            return super().predict(x_t, timesteps, context)

    encoder = TinyEncoder()
    concept_inversion(Remembering(), encoder, pictures(), both, silent)
    start = Space(encoder, "cat", both).start(own_seeds(both, 1000))
    rows = {sentence: encoder.encode_with(start, sentence).tokens[0] for sentence in both.sentences}
    shown = list(seen.values())[:64]
    counts = [sum(torch.allclose(one, row, atol=1e-6) for one in shown) for row in rows.values()]
    assert sum(counts) == 64
    assert min(counts) > 16


def test_parts_of_a_batch_only_bound_memory() -> None:
    config = replace(FAST, sentences=OBJECT_SENTENCES[:3], batch=6)
    whole, parts = run(config), run(replace(config, draws_at_once=4, chunk=2))
    assert torch.allclose(whole.vectors["l"], parts.vectors["l"], atol=1e-4)
    denoiser = TinyDenoiser()
    config = replace(config, draws_at_once=4, chunk=1)
    concept_inversion(denoiser, TinyEncoder(), pictures(), config, silent)
    assert max(denoiser.calls) == 4


def test_decay_is_adamws() -> None:
    """One step of arXiv 1711.05101: v - rate * decay * v, then Adam's own step."""
    config = replace(FAST, count=1, steps=1, learning_rate=0.05)
    start = Space(TinyEncoder(), "cat", config).start(own_seeds(config, 1000))["l"]
    plain, decayed = run(config), run(replace(config, weight_decay=0.2))
    expected = plain.vectors["l"] - 0.05 * 0.2 * start
    assert torch.allclose(decayed.vectors["l"], expected, atol=1e-6)


def test_a_start_word_has_one_token_or_as_many_as_the_embedding() -> None:
    encoder, seeds = TinyEncoder(), torch.zeros(1, dtype=torch.int64)
    for vectors, word in ((1, "cat"), (3, "cat"), (2, "cat dog")):
        config = replace(FAST, start=word, vectors=vectors)
        made = Space(encoder, "cat", config).start(seeds)["l"][0]
        own = encoder.word_vectors(word)["l"].expand(vectors, -1)
        norm = float(encoder.vocabulary("l").norm(dim=1).median()) * vectors**0.5
        assert float((made - own).norm()) == pytest.approx(START_NOISE * norm, rel=1e-4)
    for vectors, word, expected in ((1, "cat dog", "one"), (2, "a cat dog", "one or 2")):
        config = replace(FAST, start=word, vectors=vectors)
        with pytest.raises(ConfigError, match=f"{word}' has .* tokens, expected {expected}. Give"):
            Space(encoder, "cat", config).start(seeds)


def test_the_sentences_are_many_and_say_one_thing() -> None:
    assert {kind: len(lines) for kind, lines in SENTENCES.items()} == {
        "object": 27,
        "style": 19,
        "person": 2,
    }
    for lines in SENTENCES.values():
        assert len(set(lines)) == len(lines)
        assert all(line.count("{}") == 1 for line in lines)
    with pytest.raises(ConfigError, match="sentences: expected one or more sentences with exactly"):
        InversionConfig(sentences=("a {}", "a cat"))


def test_an_attack_can_join_a_set_of_the_same_seed() -> None:
    assert not set(own_seeds(FAST).tolist()) & set(run(FAST).seeds.tolist())


def judged(hits: list[int], config: InversionConfig = FAST, draws: int = 20) -> InversionSet:
    """A set of FAST's that was seen in so many of `draws` pictures each."""
    rates = torch.tensor(hits, dtype=torch.float32) / draws
    found = run(replace(config, steps=1, count=len(hits)))
    objective = {**found.objective, JUDGED: {"cfg": 5.0, "seeds": [7, draws]}}
    return replace(found, hit_rates=rates, valid=rates >= 0.5, objective=objective)


def test_only_attacks_that_work_on_the_base_count() -> None:
    leak = Leak(judged([2, 9, 0]), judged([19, 3, 20]))
    assert leak.counted == (0, 2)
    assert (leak.hits(leak.edited), leak.hits(leak.base)) == (2, 39)
    low, high = leak.interval(leak.edited)
    assert (low, high) == pytest.approx((0.0138, 0.1650), abs=1e-3)  # Wilson, 2 of 40
    assert leak.upper_bound() == pytest.approx(0.3010, abs=1e-3)  # 2 of 20, the worst


def test_an_attack_that_fails_on_the_base_shows_nothing() -> None:
    """Nothing was brought back on either model: that is no proof that the edit holds."""
    leak = Leak(judged([0, 0, 0]), judged([9, 0, 3]))
    assert leak.counted == ()
    assert leak.interval(leak.edited) == (0.0, 1.0)
    assert leak.upper_bound() == 1.0


def test_attacks_of_other_settings_are_not_compared() -> None:
    edited = judged([1, 1, 1])
    for base in (
        judged([20, 20, 20], replace(FAST, learning_rate=0.04)),
        judged([20, 20]),
        judged([10, 10, 10], draws=10),
        replace(judged([20, 20, 20]), concept="dog"),
        replace(judged([20, 20, 20]), hit_rates=None),
    ):
        with pytest.raises(ConfigError, match=r"cannot be compared\. Disconnect `base_attack`"):
            Leak(edited, base)
    with pytest.raises(ConfigError, match="other vocabularies"):
        Leak(edited, replace(judged([20, 20, 20]), text_encoder="another"))
    memory = judged([20, 20, 20], replace(FAST, draws_at_once=1, chunk=1))
    assert Leak(edited, memory).counted == (0, 1, 2)


def test_random_starts_are_still_to_be_had() -> None:
    assert run(replace(FAST, start=RANDOM)).objective["start"] == RANDOM
