from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from host_support.fakes_choose import CONV, IN, MIDDLE, OUT, LinearDenoiser
from tverase_core.erasers.uce import (
    UceConfig,
    context_keys,
    last_word_vectors,
    sentences_ending_in,
    uce,
)
from tverase_core.errors import ConfigError, NonFiniteError, ShapeMismatchError
from tverase_core.ports import Context


def test_hand_computed_two_by_two() -> None:
    # W0 = [[1, 2], [3, 4]], c = (1, 0), guide = (0, 1), keep 1: M = diag(2, 1), and
    # W = (W0 + W0 g c^T) M^-1 = ([[1, 2], [3, 4]] + [[2, 0], [4, 0]]) M^-1 = [[1.5, 2], [3.5, 4]].
    base = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    made = uce(
        lambda key: base,
        ["w"],
        torch.tensor([[1.0, 0.0]]),
        torch.tensor([[0.0, 1.0]]),
        config=UceConfig(keep=1.0),
    )
    assert torch.allclose(base - made["w"], torch.tensor([[1.5, 2.0], [3.5, 4.0]]))
    assert made["w"].dtype == torch.float32


def test_a_broken_base_weight_is_named() -> None:
    with pytest.raises(NonFiniteError, match="the edit of w holds NaN"):
        uce(lambda key: torch.full((2, 2), torch.nan), ["w"], torch.ones(1, 2), torch.zeros(1, 2))


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_agrees_with_the_published_formula() -> None:
    base, c, g, p = (
        random(5, 8, seed=0),
        random(3, 8, seed=1),
        random(3, 8, seed=2),
        random(4, 8, seed=3),
    )
    made = uce(lambda key: base, ["w"], c, g, p, UceConfig(0.5, 2.0, 3.0))["w"]
    w0, c, g, p = base.double(), c.double(), g.double(), p.double()
    left = 0.5 * w0 + 2 * (w0 @ g.T) @ c + 3 * (w0 @ p.T) @ p
    system = 0.5 * torch.eye(8, dtype=torch.float64) + 2 * c.T @ c + 3 * p.T @ p
    assert torch.allclose(base - made, (left @ torch.linalg.inv(system)).float(), atol=1e-5)


def test_concept_acts_like_its_guide_and_preserved_contexts_stay() -> None:
    base, c, g, p = (
        random(5, 8, seed=0),
        random(1, 8, seed=1),
        random(1, 8, seed=2),
        random(3, 8, seed=3),
    )
    made = uce(lambda key: base, ["w"], c, g, p, UceConfig(1e-8, 1.0, 1e4))["w"]
    erased = base - made
    assert torch.allclose(erased @ p.T, base @ p.T, atol=1e-3)
    assert torch.allclose(erased @ c.T, base @ g.T, atol=1e-2)
    same = uce(lambda key: base, ["w"], c, c, p)["w"]
    assert float(same.abs().max()) == 0


def test_only_matrices_that_read_the_context_are_named() -> None:
    denoiser = LinearDenoiser()
    found = context_keys(denoiser.weight_shapes(), denoiser.layout())
    assert found == sorted([IN, MIDDLE, OUT])
    assert CONV not in found


class CountingEncoder:
    """Token i of a text's row is (i, number of words)."""

    def last_tokens(self, texts: Sequence[str], tower: str) -> list[int]:
        return [len(text.split()) for text in texts]

    def encode(self, texts: Sequence[str]) -> Context:
        rows = [[[float(i), float(len(t.split()))] for i in range(9)] for t in texts]
        return Context(torch.tensor(rows))


def test_last_word_is_found_in_every_expanded_prompt() -> None:
    texts = [*sentences_ending_in("red heart"), ""]
    assert len(texts) == 7
    assert all(text.endswith("red heart") for text in texts[:-1])
    rows = last_word_vectors(CountingEncoder(), texts, "l")  # type: ignore[arg-type]
    assert rows.tolist() == [[float(max(1, len(t.split()))), float(len(t.split()))] for t in texts]


def test_a_name_without_tokens_is_refused() -> None:
    with pytest.raises(ConfigError, match="finds no word in '  '"):
        last_word_vectors(CountingEncoder(), ["cat", "  "], "l")  # type: ignore[arg-type]


def test_bad_input() -> None:
    base = torch.eye(2)
    one = torch.ones(1, 2)
    with pytest.raises(ConfigError, match="0 keys"):
        uce(lambda key: base, [], one, one)
    with pytest.raises(ConfigError, match="keep"):
        UceConfig(keep=0)
    with pytest.raises(ShapeMismatchError, match="guide"):
        uce(lambda key: base, ["w"], one, torch.ones(1, 3))
    with pytest.raises(ShapeMismatchError, match="preserve"):
        uce(lambda key: base, ["w"], one, one, torch.ones(2, 3))
    with pytest.raises(ShapeMismatchError, match="w: expected"):
        uce(lambda key: torch.eye(3), ["w"], one, one)
    with pytest.raises(NonFiniteError):
        uce(lambda key: base, ["w"], one * float("nan"), one)
