from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from host_support.places import ROOT
from tverase_core.errors import ConfigError, JudgeError, NonFiniteError
from tverase_core.inversion.diverse import Validation
from tverase_core.judging.scoring import check_judge
from tverase_core.ports import Context


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


def test_blind_judge_is_refused() -> None:
    assert check_judge(Plain(1), Brightness(), "cat", CONTEXT, [0, 1]) == 1
    with pytest.raises(JudgeError, match="cannot see the concept 'cat'"):
        check_judge(Plain(0.1), Brightness(), "cat", CONTEXT, [0, 1])
    with pytest.raises(NonFiniteError):
        check_judge(Plain(float("nan")), Brightness(), "cat", CONTEXT, [0])


def test_nothing_drawn_proves_nothing() -> None:
    with pytest.raises(JudgeError, match="one or more seeds"):
        check_judge(Plain(1), Brightness(), "cat", CONTEXT, [])
    with pytest.raises(ConfigError, match="one or more seeds"):
        Validation(Plain(1), Brightness(), "a cat", ())


def battery(judge: Any, context: Context, names: Sequence[str]) -> Any:
    """The claims' own counting, on pictures as bright as the context says."""
    path = ROOT / "bench" / "erasure" / "battery.py"
    spec = importlib.util.spec_from_file_location("battery_of_claims", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    studio = SimpleNamespace(sampler=Plain(1))
    return module.Battery(studio, judge, {"plain": (context, names, 3)}, 0, at_once=4)


def test_the_claims_count_hits_and_no_silence() -> None:
    class Unsure(Brightness):
        def score(self, images: Tensor, concept: str) -> Tensor:
            scores = super().score(images, concept)
            return torch.where(scores > 0.5, torch.nan, scores)

    rows = Context(torch.tensor([0.1, 0.8])[:, None, None].expand(2, 2, 2))
    assert battery(Brightness(), rows, ["cat", "dog"]).count() == {"plain": [(0, 3), (3, 3)]}
    with pytest.raises(NonFiniteError, match="'dog'"):  # NaN is no proof that the dog is gone
        battery(Unsure(), rows, ["cat", "dog"]).count()
