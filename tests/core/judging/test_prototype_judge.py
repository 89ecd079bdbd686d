"""A judge made from examples."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tverase_core.errors import JudgeError, NonFiniteError, ShapeMismatchError
from tverase_core.judging.prototype_judge import (
    PrototypeJudge,
    check_names,
    fit_prototype,
    known_concepts,
)


def cloud(middle: list[float], count: int = 12, spread: float = 0.2, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(count, len(middle), generator=torch.Generator().manual_seed(seed))
    return torch.tensor(middle) + spread * noise


CATS, DOGS = cloud([1.0, 0.0, 0.5], seed=1), cloud([0.0, 1.0, 0.5], seed=2)


def test_tells_new_pictures_apart() -> None:
    found = fit_prototype("cat", CATS, DOGS)
    assert found.must_fire == found.must_not_fire == 1
    assert bool((found.score(cloud([1.0, 0.0, 0.5], 50, seed=3)) > 0.5).all())
    assert bool((found.score(cloud([0.0, 1.0, 0.5], 50, seed=4)) < 0.5).all())
    halfway = found.score(torch.tensor([[0.5, 0.5, 0.5]]))
    assert 0.05 < float(halfway) < 0.95
    assert found.score(CATS).dtype == torch.float32


def test_length_of_features_does_not_matter() -> None:
    found, longer = fit_prototype("cat", CATS, DOGS), fit_prototype("cat", CATS * 7, DOGS * 7)
    assert torch.allclose(found.score(CATS), longer.score(3 * CATS), atol=1e-6)


def test_examples_that_do_not_differ_are_refused() -> None:
    same = cloud([1.0, 0.0, 0.5], seed=5)
    with pytest.raises(JudgeError, match="do not make a judge for 'cat'"):
        fit_prototype("cat", CATS, same)


def test_a_judge_that_is_not_silent_enough_is_refused() -> None:
    """Three of twelve counter-examples show the concept after all, and the reverse."""
    mixed = torch.cat([DOGS[:9], CATS[:3]])
    with pytest.raises(JudgeError, match=r"in 100% of its pictures and stayed silent on 75%"):
        fit_prototype("cat", cloud([1.0, 0.0, 0.5], seed=7), mixed)
    with pytest.raises(JudgeError, match=r"in 75% of its pictures and stayed silent on 100%"):
        fit_prototype("dog", mixed, cloud([1.0, 0.0, 0.5], seed=7))


def test_examples_learned_by_heart_are_refused() -> None:
    """In many dimensions any two clouds can be split; left-out examples tell that it is luck."""
    source = torch.Generator().manual_seed(6)
    noise = torch.randn(2, 8, 500, generator=source)
    direction = noise[0].mean(0) - noise[1].mean(0)
    assert bool((noise[0] @ direction > noise[1] @ direction).all())
    with pytest.raises(JudgeError):
        fit_prototype("cat", noise[0], noise[1])


def test_bad_examples() -> None:
    with pytest.raises(JudgeError, match="needs 4 or more counter-examples, got 3"):
        fit_prototype("cat", CATS, DOGS[:3])
    with pytest.raises(ShapeMismatchError, match="counter-examples"):
        fit_prototype("cat", CATS, DOGS[:, :2])
    with pytest.raises(NonFiniteError):
        fit_prototype("cat", CATS, DOGS / 0)


def test_judges_in_a_chain() -> None:
    def features(images: torch.Tensor) -> torch.Tensor:
        return images.mean((1, 2))

    cat = fit_prototype("cat", CATS, DOGS)
    first = PrototypeJudge(features, {"cat": cat})
    both = PrototypeJudge(features, {"dog": replace(cat, concept="dog", slope=-cat.slope)}, first)
    picture = torch.tensor([1.0, 0.0, 0.5]).expand(2, 4, 4, 3)
    assert both.concepts() == ("dog", "cat")
    assert float(both.score(picture, "cat").min()) > 0.5
    assert float(both.score(picture, "dog").max()) < 0.5
    with pytest.raises(JudgeError, match="does not know 'bird'"):
        both.score(picture, "bird")


def test_names_are_checked_where_a_judge_tells_them() -> None:
    judge = PrototypeJudge(lambda images: images, {"cat": fit_prototype("cat", CATS, DOGS)})
    check_names(judge, ("cat", "cat"))
    with pytest.raises(JudgeError, match="'dog', 'bird'"):
        check_names(judge, ("cat", "dog", "bird"))
    silent = object()
    assert known_concepts(silent) == ()  # type: ignore[arg-type]
    check_names(silent, ("anything",))  # type: ignore[arg-type]
