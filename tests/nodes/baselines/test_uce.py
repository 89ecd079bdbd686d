"""UCE edits the last word of what the host encodes, brackets and long names included."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tverase_core.erasers.uce import last_word_vectors
from tverase_core.errors import ConfigError

END = 49407  # CLIP's end mark, which also pads


def encoder(pack: Any, model: Any, clip: Any) -> Any:
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    return HostTextEncoder(model, clip)


@pytest.mark.parametrize(
    "text", ["cat", "saber (fate)", "(cat:1.3)", "((cat)) on (mat)", r"saber \(fate\)", "a (b:0)"]
)
def test_the_row_is_the_last_one_before_the_end_mark(
    pack: Any, make_tiny_model: Any, tiny_clip: Any, text: str
) -> None:
    made = encoder(pack, make_tiny_model(), tiny_clip)
    ids = [token for token, *_ in tiny_clip.tokenize(text)["l"][0]]
    right = made.encode([text]).tokens[0][ids.index(END) - 1]
    assert torch.equal(last_word_vectors(made, [text], "l")[0], right)


def test_a_name_longer_than_a_row_has_its_last_word_in_the_second(
    pack: Any, make_tiny_model: Any, tiny_clip: Any
) -> None:
    made, text = encoder(pack, make_tiny_model(), tiny_clip), "cat " * 80
    assert made.last_tokens(["dog", text], "l") == [1, 77 + 80 - 75]
    right = made.encode([text]).tokens[0][77 + 80 - 75]
    assert torch.equal(last_word_vectors(made, ["dog", text], "l")[1], right)


@pytest.mark.parametrize("name", ["()", "( )", "(( ):1.3)"])
@pytest.mark.parametrize("place", ["concepts", "guide", "preserve"])
def test_a_name_without_a_word_is_refused(
    pack: Any, make_tiny_model: Any, tiny_clip: Any, name: str, place: str
) -> None:
    from host_support.host_steps import node

    given = {"concepts": "cat", "guide": "", "preserve": "", "keep": 0.5, "preserve_weight": 1.0}
    with pytest.raises(ConfigError, match=r"no word in .*brackets"):
        node(pack, "UCE", model=make_tiny_model(), clip=tiny_clip, **{**given, place: name})


def test_brackets_around_a_name_do_not_change_which_word_is_edited(
    pack: Any, make_tiny_model: Any, tiny_clip: Any
) -> None:
    """Weight 1 says nothing, so both spellings are one name and give one vector."""
    from host_support.host_steps import node

    given = {"guide": "", "preserve": "", "keep": 0.5, "preserve_weight": 1.0}
    model = make_tiny_model()
    plain, marked = (
        node(pack, "UCE", model=model, clip=tiny_clip, concepts=name, **given)[0].deltas
        for name in ("cat", "(cat:1.0)")
    )
    assert all(torch.equal(plain[key], marked[key]) for key in plain)
