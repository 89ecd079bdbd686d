"""Measured damage: known answers from a denoiser whose prediction is its bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from host_support.fakes_choose import CROSS, LinearDenoiser
from tverase_core.errors import ConfigError, JudgeError, StrengthError
from tverase_core.judging.measured_damage import MeasuredDamage, measure_damage, together
from tverase_core.ports import Context

CAT, DOG = CROSS.format("input_blocks.1"), CROSS.format("output_blocks.1")
PROMPTS = Context(torch.arange(2.0).view(2, 1, 1))


class SignSampler:
    """Prompt 0 is white until the first weight goes down, prompt 1 until the second does."""

    def __init__(self, denoiser: LinearDenoiser, kinds: tuple[str, str] = (CAT, DOG)):
        self.denoiser, self.kinds = denoiser, kinds
        self.seeds: list[list[int]] = []

    def images(self, context: Context, seeds: Sequence[int]) -> Tensor:
        self.seeds.append(list(seeds))
        pictures = []
        for row in context.tokens.flatten().tolist():
            key = self.kinds[int(row)]
            moved = float((self.denoiser._weight(key) - self.denoiser.base[key]).sum())
            pictures.append(torch.full((8, 8, 3), 0.2 if moved < 0 else 0.9))
        return torch.stack(pictures)


class WhiteJudge:
    def score(self, images: Tensor, concept: str) -> Tensor:
        return (images.mean((1, 2, 3)) > 0.5).float()


class BlindTo(WhiteJudge):
    def __init__(self, name: str):
        self.name = name

    def score(self, images: Tensor, concept: str) -> Tensor:
        return super().score(images, concept) * (concept != self.name)


def edit(denoiser: LinearDenoiser, key: str) -> Mapping[str, Tensor]:
    return {key: torch.ones_like(denoiser.base[key])}


def measured(judge: Any = None, **changes: Any) -> tuple[MeasuredDamage, SignSampler]:
    denoiser = LinearDenoiser()
    sampler = SignSampler(denoiser)
    first = changes.pop("first", 1.5)
    edits = [(first, edit(denoiser, CAT)), (0.5, edit(denoiser, DOG))]
    given = {"names": ["cat", "dog"], "pictures": 4, "seed": 7, "at_once": 3, **changes}
    names = given.pop("names")
    found = measure_damage(
        denoiser,  # type: ignore[arg-type]
        sampler,
        judge or WhiteJudge(),
        edits,
        PROMPTS,
        names,
        **given,
    )
    return found, sampler


def test_each_edit_takes_its_own_concept_and_all_take_both() -> None:
    found, sampler = measured()
    assert found.before == (4, 4)
    assert found.after == ((0, 4), (4, 0), (0, 0))
    assert found.damage().tolist() == [[1, 0], [0, 1], [1, 1]]
    assert found.rows == ("cat", "dog", "all")
    assert sampler.seeds == [[7, 8, 9], [10]] * 8  # the same in all four states, for both prompts


def test_the_text_has_a_line_for_each_state_with_intervals() -> None:
    lines = measured()[0].to_text().splitlines()
    assert lines[0].startswith("4 pictures of each concept")
    assert lines[1:3] == [
        "Unedited: cat 100% (51% to 100%), dog 100% (51% to 100%)",
        "Erasing cat: cat 0% (0% to 49%), dog 100% (51% to 100%)",
    ]
    assert lines[-1].startswith("Erasing all: cat 0%")


def test_a_judge_that_cannot_see_is_refused_before_any_edit() -> None:
    with pytest.raises(JudgeError, match="sees 'dog' in 0 of 4 pictures of the unedited model"):
        measured(BlindTo("dog"))


@pytest.mark.parametrize("change", [{"names": ["cat"]}, {"pictures": 0}, {"at_once": 0}])
def test_counts_that_do_not_fit_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="measured damage"):
        measured(**change)


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_a_strength_that_would_not_erase_is_refused_before_any_picture(strength: float) -> None:
    class Untouched(WhiteJudge):
        def score(self, images: Tensor, concept: str) -> Tensor:
            raise AssertionError("a picture was drawn")

    with pytest.raises(StrengthError, match="finite number >= 0"):
        measured(Untouched(), first=strength)


def test_together_is_the_sum() -> None:
    one, two = {"a": torch.ones(2)}, {"a": torch.ones(2), "b": torch.full((1,), 3.0)}
    total = together([(2.0, one), (0.5, two)], torch.device("cpu"))
    assert total["a"].tolist() == [2.5, 2.5]
    assert total["b"].tolist() == [1.5]
    assert one["a"].tolist() == [1, 1]


def test_a_weight_that_two_edits_prune_goes_once_and_what_was_learned_is_added() -> None:
    weight, learned = torch.tensor([2.0, -4.0]), {"a": torch.tensor([0.5, 0.0])}
    first, second = {"a": weight}, {"a": weight * torch.tensor([1.0, 0.0])}
    edits = [(1.0, first), (1.0, learned), (1.0, second)]
    total = together(edits, torch.device("cpu"), {0, 2})
    assert total["a"].tolist() == [2.5, -4.0]
    assert torch.equal(first["a"], weight)
