from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from host_support.fakes_learn import TinyDenoiser, TinyEncoder, pictures, silent
from tverase_core.errors import (
    BaseMismatchError,
    ConfigError,
    FormatError,
    InversionError,
    JudgeError,
    NonFiniteError,
    TextWidthError,
)
from tverase_core.inversion import inversion_set
from tverase_core.inversion.config import InversionConfig
from tverase_core.inversion.diverse import Validation, diverse_inversion, validate
from tverase_core.inversion.files import (
    embedding_key,
    export_embeddings,
    load_inversion_set,
    prompt_of,
    save_inversion_set,
)
from tverase_core.inversion.inversion_set import InversionSet, encoder_digest
from tverase_core.ports import Context

FAST = InversionConfig(count=4, steps=4, batch=2, seed=2, judged_draws=4)


def tiny(count: int = 5, towers: Sequence[str] = ("l",)) -> InversionSet:
    encoder = TinyEncoder(towers)
    return InversionSet(
        vectors={tower: encoder.vocabulary(tower)[:count, None].clone() for tower in towers},
        losses=torch.linspace(0.1, 0.5, count),
        seeds=torch.arange(count),
        valid=torch.arange(count) != 1,
        concept="cat",
        template="a photo of {}",
        text_encoder=encoder_digest(encoder),
        hit_rates=torch.linspace(0, 1, count),
        objective={"steps": 4},
        notes=("1 restarted from new seeds",),
    )


def test_split_is_disjoint_and_complete() -> None:
    for share, sizes in ((0.6, (3, 2)), (0.01, (1, 4)), (0.99, (4, 1))):
        tuning, held_out = tiny().split(share, seed=1)
        assert (len(tuning), len(held_out)) == sizes
        assert sorted(tuning.seeds.tolist() + held_out.seeds.tolist()) == [0, 1, 2, 3, 4]
    assert torch.equal(tiny().split(0.5, 3)[0].seeds, tiny().split(0.5, 3)[0].seeds)
    with pytest.raises(ConfigError, match="two embeddings"):
        tiny(1).split(0.5, 0)


def test_subset_and_valid_ones() -> None:
    chosen = tiny().subset([3, 0])
    assert chosen.seeds.tolist() == [3, 0]
    assert torch.equal(chosen.vectors["l"][0], tiny().vectors["l"][3])
    kept = tiny().only_valid()
    assert kept is not None
    assert kept.seeds.tolist() == [0, 2, 3, 4]
    for wrong in ([5], [], [-1]):
        with pytest.raises(ConfigError):
            tiny().subset(wrong)


def test_cosines_by_hand() -> None:
    vectors = {"l": torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]], [[0.0, 1.0]]])}
    found = replace(tiny(3), vectors=vectors, valid=torch.ones(3).bool(), losses=torch.zeros(3))
    assert found.max_cosine() == pytest.approx(0.8)
    assert torch.allclose(found.cosine_matrix().diagonal(), torch.ones(3))


def test_bad_sets_are_refused() -> None:
    with pytest.raises(NonFiniteError):
        replace(tiny(), losses=torch.full((5,), float("nan")))
    with pytest.raises(ValueError, match="losses has shape"):
        replace(tiny(), losses=torch.zeros(4))
    with pytest.raises(ConfigError, match="seeds repeat"):
        replace(tiny(), seeds=torch.zeros(5, dtype=torch.int64))


def test_other_text_encoders_are_refused() -> None:
    assert tiny().contexts(TinyEncoder()).tokens.shape[0] == 5
    with pytest.raises(TextWidthError, match="12"):
        tiny().contexts(TinyEncoder(("g",)))
    with pytest.raises(TextWidthError):
        tiny().contexts(TinyEncoder(("l", "g")))
    with pytest.raises(BaseMismatchError):
        tiny().contexts(TinyEncoder(seed=9))


@pytest.mark.parametrize("towers", [("l",), ("l", "g")])
def test_save_load_save_gives_equal_bytes(tmp_path: Path, towers: Sequence[str]) -> None:
    first, again = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    found = tiny(towers=towers)
    save_inversion_set(first, found, "stable-diffusion-v1", "2026-01-31T12:00:00Z")
    loaded = load_inversion_set(first)
    save_inversion_set(again, loaded, "stable-diffusion-v1", "2026-01-31T12:00:00Z")
    assert first.read_bytes() == again.read_bytes()
    assert loaded.notes == found.notes
    assert loaded.concept == "cat"
    for tower in towers:
        assert torch.equal(loaded.vectors[tower], found.vectors[tower])
    assert ("vectors" in load_file(first)) == (len(towers) == 1)


def test_export_as_native_embeddings(tmp_path: Path) -> None:
    names = export_embeddings(tmp_path, "cat", tiny(2, ("l", "g")), "stable-diffusion-xl-v1-base")
    assert names == ["cat-00", "cat-01"]
    tensors = load_file(tmp_path / "cat-01.safetensors")
    assert {key: tuple(value.shape) for key, value in tensors.items()} == {
        "clip_l": (1, 8),
        "clip_g": (1, 12),
    }
    with pytest.raises(ConfigError):
        export_embeddings(tmp_path, "../cat", tiny(2), "stable-diffusion-v1")
    with pytest.raises(FormatError):
        load_inversion_set(tmp_path / "cat-01.safetensors")


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("a {}", "a embedding:x"),
        ("a {} in ink", "a embedding:x in ink"),
        ("a {}, in ink", "a embedding:x, in ink"),
        ("a {}'s toy", "a embedding:x 's toy"),  # else the host looks for "x's"
    ],
)
def test_an_embeddings_name_ends_where_the_host_ends_it(template: str, prompt: str) -> None:
    assert prompt_of(template, "x") == prompt


def test_keys_are_those_of_the_host() -> None:
    assert [embedding_key(t) for t in ("l", "g", "h")] == ["clip_l", "clip_g", "clip_h"]
    assert embedding_key("qwen3_4b") == "qwen3_4b"


def test_a_long_tables_digest_sees_some_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is the same for a table in half precision."""
    whole, other, half = TinyEncoder(), TinyEncoder(), TinyEncoder()
    table = whole.vocabulary("l").half().float()

    def held(change: Callable[[Tensor], Tensor]) -> Callable[[str], Tensor]:
        return lambda tower: change(table.clone())

    monkeypatch.setattr(whole, "vocabulary", held(lambda t: t), raising=False)
    monkeypatch.setattr(half, "vocabulary", held(lambda t: t.half()), raising=False)
    monkeypatch.setattr(other, "vocabulary", held(lambda t: t + 1), raising=False)
    plain = encoder_digest(whole)
    monkeypatch.setattr(inversion_set, "WHOLE_TABLE", table.numel() - 1)
    long = encoder_digest(whole)
    assert plain != long
    assert long == encoder_digest(half) != encoder_digest(other)


class Drawn:
    """Pictures of the context's mean, by seed order."""

    def images(self, context: Context, seeds: Sequence[int]) -> Tensor:
        level = context.tokens.mean((1, 2))
        return level[:, None, None, None].expand(-1, 2, 2, 3)


class Ranks:
    """Fires on the plain prompt, then on each inversion as told; two pictures an answer."""

    def __init__(self, answers: Sequence[float]):
        self.answers = list(answers)

    def score(self, images: Tensor, concept: str) -> Tensor:
        told = [self.answers.pop(0) for _ in range(len(images) // 2)]
        return torch.tensor(told).repeat_interleave(2).float()


def validated(
    answers: Sequence[float], rounds: int = 1, at_once: int = 2, edited: bool = False
) -> InversionSet:
    judge = Ranks(answers)
    validation = Validation(Drawn(), judge, "a cat", (1, 2), rounds, at_once=at_once, edited=edited)
    return diverse_inversion(TinyDenoiser(), TinyEncoder(), pictures(), FAST, validation, silent)


def test_all_pass() -> None:
    found = validated([1, 1, 1, 1, 1])
    assert len(found) == 4
    assert found.notes == ()
    assert found.hit_rates is not None
    assert found.hit_rates.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("needed", [0.3, 0.5, 0.7])
def test_the_needed_share_of_seeds_makes_an_inversion_valid(needed: float) -> None:
    class Scores:
        """Sees the concept in none, one, two and all of three pictures."""

        def score(self, images: Tensor, concept: str) -> Tensor:
            return torch.tensor([0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1]).float()

    checks = Validation(Drawn(), Scores(), "a cat", (1, 2, 3), needed=needed)
    found = validate(tiny(4), TinyEncoder(), checks, silent)
    assert found.hit_rates is not None
    assert found.hit_rates.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert found.valid.tolist() == [rate >= needed for rate in (0, 1 / 3, 2 / 3, 1)]


@pytest.mark.parametrize("at_once", [1, 2, 6, 100])
def test_failed_ones_restart_then_drop_and_the_set_says_so(at_once: int) -> None:
    plain = validated([1, 1, 1, 1, 1])
    found = validated([1, 1, 0, 1, 0, 1, 0], at_once=at_once)
    assert len(found) == 3
    assert found.notes == (
        "2 restarted from new seeds",
        "1 of 4 dropped: the judge did not fire often enough",
    )
    assert found.seeds[0] == plain.seeds[0]
    assert found.seeds[2] == plain.seeds[2]
    assert found.seeds[1] not in plain.seeds
    assert torch.equal(found.vectors["l"][0], plain.vectors["l"][0])
    assert not torch.equal(found.vectors["l"][1], plain.vectors["l"][1])


@pytest.mark.parametrize(
    ("answers", "back", "rate"),
    [([0] * 8, 0, "0%"), ([0, 1, 0, 0, 0, 1, 0], 2, "50%"), ([1, 1, 1, 1], 4, "100%")],
)
def test_on_an_edited_model_failing_is_a_result(answers: list[float], back: int, rate: str) -> None:
    """No answer is spent on the plain prompt, and none of the four is dropped."""
    found = validated(answers, edited=True)
    assert len(found) == 4
    assert int(found.valid.sum()) == back
    assert found.notes[-1] == (
        f"{back} of 4 bring 'cat' back on the edited MODEL; the judge saw it in {rate} of all "
        "pictures drawn with them"
    )
    if not back:
        with pytest.raises(InversionError):
            found.require_valid()


def test_blind_judge_and_hopeless_search_are_refused() -> None:
    with pytest.raises(JudgeError, match="cannot see"):
        validated([0])
    with pytest.raises(InversionError, match="None of 4"):
        validated([1, *[0] * 8])
