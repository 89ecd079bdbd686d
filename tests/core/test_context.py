from __future__ import annotations

import torch

from tverase_core.ports import Context, joined


def test_joined_keeps_order_and_repeats_shorter_texts() -> None:
    short = Context(torch.tensor([[[1.0], [2.0]]]), {"y": torch.tensor([[7.0]])})
    long = Context(torch.tensor([[[3.0], [4.0], [5.0]]] * 2), {"y": torch.tensor([[8.0], [9.0]])})
    both = joined(short, long)
    assert both.tokens[..., 0].tolist() == [[1, 2, 1], [3, 4, 5], [3, 4, 5]]
    assert both.extra["y"][:, 0].tolist() == [7, 8, 9]


def test_picking_from_a_joined_context_gives_the_parts_back() -> None:
    parts = [Context(torch.randn(n, 4, 3), {"y": torch.randn(n, 2)}) for n in (2, 1)]
    both = joined(*parts)
    back = both.pick(torch.tensor([2]))
    assert torch.equal(back.tokens, parts[1].tokens)
    assert torch.equal(back.extra["y"], parts[1].extra["y"])


def test_to_moves_tokens_and_extras() -> None:
    moved = Context(torch.zeros(1, 2, 3), {"y": torch.zeros(1, 4)}).to("meta")
    assert moved.tokens.device.type == moved.extra["y"].device.type == "meta"
