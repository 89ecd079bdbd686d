"""The neighbours on transformers: ESD where there is something to train, else a true sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from host_support.tiny_flow import build, pictures, text
from tverase_core.errors import EmptyMaskError

ESD: dict[str, Any] = {
    **{"steps": 2, "learning_rate": 1e-2, "batch_size": 2, "eta": 1.0, "anchor": "null", "seed": 0},
    **{"prompts": "cat\na cat", "erase_from": "", "width": 64, "height": 64},
    **{"sample_guidance": 3.0, "sample_steps": 3},
}


class Clip:
    """A text encoder of that family: prompts get as many tokens as they have letters."""

    def __init__(self, family: str):
        self._family = family

    def tokenize(self, line: str, **words: Any) -> int:
        return 5 + len(line)

    def encode_from_tokens(self, tokens: int, **words: Any) -> dict[str, Any]:
        made = text(self._family, tokens, seed=tokens)
        return {"cond": made.tokens, "pooled_output": None, **made.extra}


def esd(pack: Any, family: str, variant: str, model: Any = None) -> Any:
    """From pictures for `u`, from samples of the model's own for the others."""
    from host_support.host_steps import node

    shown = {"concept_set": pictures(family)} if variant == "u" else {}
    given = {"model": model or build(family), "clip": Clip(family), "variant": variant}
    return node(pack, "ESD", **given, **shown, **ESD)[0]


@pytest.mark.training
@pytest.mark.parametrize(
    ("family", "variant", "trained"),
    [
        ("flux-dev", "x", ["txt_attn"]),
        ("sd3.5", "x", ["context_block.attn"]),
        ("cosmos-predict2", "x", ["cross_attn"]),
        ("z-image", "u", ["attention.", "feed_forward."]),
    ],
)
def test_esd_trains_the_texts_half_or_all_but_it(
    pack: Any, comfy_host: Any, family: str, variant: str, trained: Sequence[str]
) -> None:
    from host_support.host_steps import same, weights

    model = build(family)
    before = weights(model)
    vector = esd(pack, family, variant, model)
    assert vector.provenance.prediction == "flow"
    for part in trained:
        assert any(part in key for key in vector.deltas)
    if variant == "x":
        assert all(any(part in key for part in trained) for key in vector.deltas)
    assert same(weights(model), before)


def test_esd_x_says_what_to_set_where_text_and_picture_share_their_attention(
    pack: Any, comfy_host: Any
) -> None:
    with pytest.raises(EmptyMaskError, match=r"ESD-x: this model .* Set variant to u"):
        esd(pack, "z-image", "x")


@pytest.mark.parametrize("family", ["z-image", "flux-dev"])
def test_uce_and_concept_prune_say_what_to_use(pack: Any, comfy_host: Any, family: str) -> None:
    from host_support.host_steps import node

    uce = {"guide": "", "preserve": "", "keep": 1.0, "preserve_weight": 1.0, "kind": "object"}
    uce |= {"expand": False, "erase_weight": 1.0, "form": "2025"}
    with pytest.raises(EmptyMaskError, match=r"UCE edits cross-attention.*none\. Use ESD"):
        node(pack, "UCE", model=build(family), clip=Clip(family), concepts="cat", **uce)
