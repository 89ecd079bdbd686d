from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tverase_core.errors import JudgeError, NonFiniteError
from tverase_core.ports import Context
from tverase_core.scoring import Case, ScoreRow, check_judge, paired_scores


class Plain:
    """Pictures as bright as the context says, scaled; the judge reads the brightness."""

    def __init__(self, gain: float):
        self.gain = gain

    def images(self, context: Context, seeds: Sequence[int]) -> Tensor:
        level = context.tokens[:, 0, 0] * self.gain + torch.tensor(seeds) * 0.01
        return level[:, None, None, None].expand(-1, 2, 2, 3)


class Brightness:
    def score(self, images: Tensor, concept: str) -> Tensor:
        return images.mean((1, 2, 3))


CONTEXT = Context(torch.full((1, 2, 2), 0.8))


def test_rows_are_paired_and_reported() -> None:
    heard, shown = [], []
    cases = [
        Case("target", "cat", "a cat", CONTEXT, (1, 2)),
        Case("retained", "dog", "d", CONTEXT, (3,)),
    ]
    rows = paired_scores(
        Plain(1),
        Plain(0.1),
        Brightness(),
        cases,
        lambda done, total, message: heard.append((done, total)),
        lambda case, before, after: shown.append((case.trigger, before.shape, after.shape)),
    )
    assert rows[0] == ScoreRow(
        "target", "cat", "a cat", 1, pytest.approx(0.81), pytest.approx(0.09)
    )
    assert [(row.concept, row.seed) for row in rows] == [("cat", 1), ("cat", 2), ("dog", 3)]
    assert heard == [(0, 6), (2, 6), (4, 6), (5, 6), (6, 6)]
    assert shown[0] == ("a cat", (2, 2, 2, 3), (2, 2, 2, 3))


def test_blind_judge_is_refused() -> None:
    assert check_judge(Plain(1), Brightness(), "cat", CONTEXT, [0, 1]) == 1
    with pytest.raises(JudgeError, match="cannot see the concept 'cat'"):
        check_judge(Plain(0.1), Brightness(), "cat", CONTEXT, [0, 1])
    with pytest.raises(NonFiniteError):
        check_judge(Plain(float("nan")), Brightness(), "cat", CONTEXT, [0])


def test_cancel_passes_through() -> None:
    def stop(done: int, total: int, message: str) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        paired_scores(
            Plain(1), Plain(1), Brightness(), [Case("target", "c", "t", CONTEXT, (1,))], stop
        )
