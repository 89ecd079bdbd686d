"""UCE's debiasing on the real host, with a judge that a test can steer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tverase_core.errors import ConfigError, JudgeError

pytestmark = pytest.mark.training


class Halves:
    """Sees a cat in the first pictures it is shown, a dog in the others; counts its questions."""

    def __init__(self, cats: float = 0.5, sure: float = 0.9):
        self.cats, self.sure, self.asked = cats, sure, 0

    def concepts(self) -> tuple[str, ...]:
        return ("cat", "dog")

    def score(self, images: Tensor, concept: str) -> Tensor:
        self.asked += 1
        seen = torch.arange(len(images)) < self.cats * len(images)
        return torch.where(seen == (concept == "cat"), self.sure, 0.1 * self.sure)


def debiased(pack: Any, model: Any, clip: Any, judge: Any, **changes: Any) -> Any:
    """(vector, report), run as the host runs it."""
    from host_support import attack_steps as world
    from host_support.host_steps import node

    given = {**world.DRAWING, "rounds": 2, "pictures_per_prompt": 4, **changes}
    widgets = world.defaults(pack.NODE_CLASS_MAPPINGS["TVEraseUCEDebias"], **given)
    parts = {"model": model, "clip": clip, "vae": world.FlatVAE(), "judge": judge}
    return node(pack, "UCEDebias", **parts, **widgets)


def test_prompts_that_are_as_wanted_are_left_alone(
    pack: Any, make_tiny_model: Any, tiny_clip: Any
) -> None:
    judge = Halves()
    vector, text = debiased(pack, make_tiny_model(), tiny_clip, judge)
    assert not vector.deltas
    assert judge.asked == 2
    assert text.splitlines() == [
        "'a pet': cat 50% to 50%, dog 50% to 50%",
        "as wanted after 0 edits",
    ]


def test_the_edit_is_uce_towards_what_falls_short(
    pack: Any, make_tiny_model: Any, tiny_clip: Any
) -> None:
    """One row c: the delta is W0 (c - c - s d) c^T / (0.5 + c.c), s the scales and d the names."""
    from tverase_pack.nodes.host.model.weights import base_weight
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    from host_support.host_steps import same, weights

    model = make_tiny_model()
    before = weights(model)
    vector, text = debiased(pack, model, tiny_clip, Halves(0.75), rounds=1)
    encoder = HostTextEncoder(model, tiny_clip)
    words = ("a pet", "cat", "dog")
    pet, cat, dog = (encoder.encode([t]).tokens[0][len(t.split())].double() for t in words)
    added = -0.25 * cat + 0.25 * dog
    for key, delta in vector.deltas.items():
        right = base_weight(model, key).double() @ torch.outer(-added, pet) / (0.5 + pet @ pet)
        torch.testing.assert_close(delta.double(), right, rtol=1e-4, atol=1e-6)
    assert {key.rsplit(".", 2)[1] for key in vector.deltas} == {"to_k", "to_v"}
    assert vector.provenance.recipe["scales"] == [[-0.25, 0.25]]
    assert "not as wanted after 1 rounds" in text
    assert same(weights(model), before)


def test_later_rounds_are_drawn_with_the_edit_and_from_new_seeds(
    pack: Any, make_tiny_model: Any, tiny_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.host.drawing import studio

    drawn: list[tuple[list[int], float, set[str]]] = []
    real = studio.HostSampler.images

    def images(self: Any, context: Any, seeds: Any) -> Any:
        (acting,) = self._denoiser._stack
        drawn.append((list(seeds), acting.scale, set(acting.deltas)))
        return real(self, context, seeds)

    monkeypatch.setattr(studio.HostSampler, "images", images)
    vector, _ = debiased(pack, make_tiny_model(), tiny_clip, Halves(1.0), rounds=3, seed=7)
    seeds, scales, edited = zip(*drawn, strict=True)
    assert seeds == ([7, 8, 9, 10], [11, 12, 13, 14], [15, 16, 17, 18])
    assert scales[1:] == (-1.0, -1.0)  # W - 1.0 * delta, as Apply Negated TV at strength 1
    assert edited == (set(), set(vector.deltas), set(vector.deltas))


def test_mistakes_are_told_in_a_sentence(pack: Any, make_tiny_model: Any, tiny_clip: Any) -> None:
    model = make_tiny_model()
    for changes, words in (
        ({"attributes": "cat\ndog"}, "'cat' is not a name, a bar and a share"),
        ({"attributes": "cat | 0.5\ndog | 0.6"}, "sum to 1"),
        ({"attributes": "cat | 1"}, "two or more attributes"),
        ({"attributes": "cat | 0.5\nwolf | 0.5"}, "does not know 'wolf'"),
        ({"preserve": "a pet"}, "cannot be edited and preserved"),
    ):
        with pytest.raises((ConfigError, JudgeError), match=words):
            debiased(pack, model, tiny_clip, Halves(), **changes)
    with pytest.raises(JudgeError, match="sees none of cat, dog in 4 pictures of 'a pet'"):
        debiased(pack, model, tiny_clip, Halves(sure=0.4))
