from __future__ import annotations

import pytest
import torch

from tverase_core.errors import ShapeMismatchError
from tverase_core.ports import Context, joined


def text(first: float, tokens: int, pooled: float, rows: int = 1) -> Context:
    states = (first + torch.arange(tokens).float()).view(1, tokens, 1).repeat(rows, 1, 1)
    return Context(
        states, {"y": torch.full((rows, 1), pooled), "mask": torch.ones(rows, tokens).long()}
    )


def test_joined_keeps_order_and_remembers_the_sizes() -> None:
    both = joined(text(1, 2, 7), text(3, 3, 8, rows=2))
    assert both.tokens[..., 0].tolist() == [[1, 2, 0], [3, 4, 5], [3, 4, 5]]
    assert both.extra["y"][:, 0].tolist() == [7, 8, 8]
    assert both.sizes["tokens"].tolist() == [[2, 1], [3, 1], [3, 1]]
    assert both.sizes["mask"].tolist() == [[2], [3], [3]]
    assert "y" not in both.sizes


def test_even_gives_every_row_as_it_was_before_joining() -> None:
    """No zero and no repeat: a joint attention would read either."""
    parts = [text(1, 2, 7), text(3, 3, 8), text(9, 2, 6)]
    both = joined(*parts)
    assert torch.equal(
        joined(both, parts[0]).pick(torch.tensor([3])).sizes["tokens"][0, :1], torch.tensor([2])
    )
    met = []
    for rows, group in both.pick(torch.tensor([2, 1, 0, 0])).even():
        assert not group.sizes
        for place, row in enumerate(rows.tolist()):
            own = parts[[2, 1, 0, 0][row]]
            assert torch.equal(group.tokens[place], own.tokens[0])
            assert torch.equal(group.extra["mask"][place], own.extra["mask"][0])
            assert torch.equal(group.extra["y"][place], own.extra["y"][0])
        met.append(rows.tolist())
    assert sorted(met) == [[0, 2, 3], [1]]


def test_even_rows_of_one_size_are_the_context_itself() -> None:
    context = text(1, 4, 0, rows=3)
    [(rows, same)] = context.even()
    assert same is context
    assert rows.tolist() == [0, 1, 2]


def test_gradients_reach_texts_of_unequal_length() -> None:
    short, long = (torch.ones(1, n, 2, requires_grad=True) for n in (1, 3))
    for _, group in joined(Context(short), Context(long)).even():
        group.tokens.sum().backward()
    assert short.grad is not None
    assert short.grad.tolist() == [[[1, 1]]]
    assert long.grad is not None
    assert float(long.grad.sum()) == 6


@pytest.mark.parametrize("other", [text(1, 2, 7).tokens.repeat(1, 1, 2), torch.zeros(1, 2)])
def test_texts_of_another_width_are_refused(other: torch.Tensor) -> None:
    with pytest.raises(ShapeMismatchError, match="different encoders"):
        joined(text(1, 2, 7), Context(other, text(1, 2, 7).extra))


def test_picking_from_a_joined_context_gives_the_parts_back() -> None:
    parts = [Context(torch.randn(n, 4, 3), {"y": torch.randn(n, 2)}) for n in (2, 1)]
    both = joined(*parts)
    back = both.pick(torch.tensor([2]))
    assert torch.equal(back.tokens, parts[1].tokens)
    assert torch.equal(back.extra["y"], parts[1].extra["y"])


def test_to_moves_tokens_and_extras() -> None:
    moved = Context(torch.zeros(1, 2, 3), {"y": torch.zeros(1, 4)}).to("meta")
    assert moved.tokens.device.type == moved.extra["y"].device.type == "meta"
