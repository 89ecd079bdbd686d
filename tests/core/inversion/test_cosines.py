from __future__ import annotations

import pytest
import torch

from tverase_core.inversion.cosines import cosines, project, spread_penalty


def exact_cosine(vectors: torch.Tensor, word: torch.Tensor) -> torch.Tensor:
    flat = vectors.double().flatten(1)
    return flat @ word.double().flatten() / (flat.norm(dim=1) * word.double().norm())


SPANS = [(-1.0, -0.8), (-0.2, 0.0), (0.4, 0.6), (0.95, 0.98), (0.3, 0.3), (1.0, 1.0), (-1.0, -1.0)]


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("tokens", [1, 3])
def test_interval_and_norm_hold(span: tuple[float, float], tokens: int) -> None:
    source = torch.Generator().manual_seed(0)
    word = torch.randn(tokens, 16, generator=source)
    vectors = torch.randn(40, tokens, 16, generator=source) * 7
    vectors[0], vectors[1], vectors[2] = word, -3 * word, 0
    vectors[3] = word + 1e-7 * vectors[4]
    low, high = (torch.full((40,), edge) for edge in span)
    held = project(vectors, word, low, high, 0.4)
    cosine = exact_cosine(held, word)
    slack = 2e-7 if span[0] == span[1] else 0.0
    assert bool((cosine >= low.double() - slack).all())
    assert bool((cosine <= high.double() + slack).all())
    assert torch.allclose(held.flatten(1).norm(dim=1), torch.tensor(0.4), atol=1e-6)
    assert torch.allclose(project(held, word, low, high, 0.4), held, atol=2e-5)


def test_inside_the_interval_only_the_norm_changes() -> None:
    word, vector = torch.tensor([[1.0, 0.0]]), torch.tensor([[[3.0, 4.0]]])
    held = project(vector, word, torch.tensor([0.5]), torch.tensor([0.7]), 1.0)
    assert torch.allclose(held, vector / 5)


def test_the_nearest_edge_is_chosen_by_hand() -> None:
    word, vector = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[[0.0, 0.0, 2.0]]])
    held = project(vector, word, torch.tensor([0.6]), torch.tensor([0.8]), 1.0)
    assert torch.allclose(held, torch.tensor([[[0.6, 0.0, 0.8]]]), atol=3e-6)


def test_penalty_by_hand() -> None:
    vectors = torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]], [[0.0, 5.0]]])
    assert torch.allclose(cosines(vectors, vectors)[0], torch.tensor([1, 0.6, 0.0]))
    penalty = spread_penalty(vectors, vectors[:0], -1, 0.2)
    assert torch.allclose(penalty, torch.tensor([0.2, 0.5, 0.3]))
    fixed = torch.tensor([[[1.0, 0.0]]])
    assert torch.allclose(spread_penalty(vectors, fixed, -1, 0.2)[0], torch.tensor(1.2 / 3))


def test_pairs_below_the_floor_pull_by_hand() -> None:
    vectors = torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]], [[0.0, 5.0]]])
    penalty = spread_penalty(vectors, vectors[:0], 0.5, 0.7)
    assert torch.allclose(penalty, torch.tensor([0.25, 0.05, 0.3]))


def test_a_single_inversion_has_no_penalty() -> None:
    one = torch.ones(1, 1, 4, requires_grad=True)
    spread_penalty(one, one[:0].detach(), -1, 0.0).sum().backward()
    assert one.grad is not None
    assert float(one.grad.abs().sum()) == 0
