"""UCE edits the last word of what the host encodes, brackets and long names included."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tverase_core.erasers.uce_rows import last_words
from tverase_core.errors import ConfigError

END = 49407  # CLIP's end mark, which also pads


def encoder(pack: Any, model: Any, clip: Any) -> Any:
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    return HostTextEncoder(model, clip)


def edited(pack: Any, model: Any, clip: Any, **changes: Any) -> Any:
    """The node's vector at its defaults but for the changes."""
    from host_support.attack_steps import defaults
    from host_support.host_steps import node

    given = defaults(pack.NODE_CLASS_MAPPINGS["TVEraseUCE"], **changes)
    return node(pack, "UCE", model=model, clip=clip, **given)[0]


def same(first: Any, second: Any) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    "text", ["cat", "saber (fate)", "(cat:1.3)", "((cat)) on (mat)", r"saber \(fate\)", "a (b:0)"]
)
def test_the_row_is_the_last_one_before_the_end_mark(
    pack: Any, make_tiny_model: Any, tiny_clip: Any, text: str
) -> None:
    made = encoder(pack, make_tiny_model(), tiny_clip)
    ids = [token for token, *_ in tiny_clip.tokenize(text)["l"][0]]
    right = made.encode([text]).tokens[0][ids.index(END) - 1]
    assert torch.equal(last_words(made, [text], "l")[0], right)


def test_a_name_longer_than_a_row_has_its_last_word_in_the_second(
    pack: Any, make_tiny_model: Any, tiny_clip: Any
) -> None:
    made, text = encoder(pack, make_tiny_model(), tiny_clip), "cat " * 80
    assert made.last_tokens(["dog", text], "l") == [1, 77 + 80 - 75]
    right = made.encode([text]).tokens[0][77 + 80 - 75]
    assert torch.equal(last_words(made, ["dog", text], "l")[1], right)


@pytest.mark.parametrize("name", ["()", "( )", "(( ):1.3)"])
@pytest.mark.parametrize("place", ["concepts", "guide", "preserve"])
def test_a_name_without_a_word_is_refused(
    pack: Any, make_tiny_model: Any, tiny_clip: Any, name: str, place: str
) -> None:
    with pytest.raises(ConfigError, match=r"no word in .*brackets"):
        edited(pack, make_tiny_model(), tiny_clip, **{place: name})


def test_brackets_around_a_name_do_not_change_which_word_is_edited(
    pack: Any, make_tiny_model: Any, tiny_clip: Any
) -> None:
    """Weight 1 says nothing, so both spellings are one name and give one vector."""
    model = make_tiny_model()
    plain, marked = (
        edited(pack, model, tiny_clip, concepts=name).deltas for name in ("cat", "(cat:1.0)")
    )
    assert same(plain, marked)


def test_the_authors_choice_is_the_default(pack: Any, make_tiny_model: Any, tiny_clip: Any) -> None:
    """One row, the name's last word, which becomes the empty text's start mark; lambda 0.5."""
    from tverase_pack.nodes.host.model.weights import base_weight

    model = make_tiny_model()
    made, rows = edited(pack, model, tiny_clip), encoder(pack, model, tiny_clip)
    name, empty = (rows.encode([text]).tokens[0].double() for text in ("cat", ""))
    c, g = name[1], empty[0]
    for key, delta in made.deltas.items():
        # One row: W0 (c - g) c^T (0.5 I + c c^T)^-1 is W0 (c - g) c^T / (0.5 + c.c).
        right = base_weight(model, key).double() @ torch.outer(c - g, c) / (0.5 + c @ c)
        torch.testing.assert_close(delta.double(), right, rtol=1e-4, atol=1e-6)


def test_styles_are_guided_by_art_and_each_concept_has_a_guide_of_its_own(
    pack: Any, make_tiny_model: Any, tiny_clip: Any
) -> None:
    model = make_tiny_model()

    def made(**changes: Any) -> Any:
        return edited(pack, model, tiny_clip, **changes).deltas

    assert same(made(kind="style"), made(guide="art"))
    two = made(concepts="cat\ndog", guide="tree\nhouse")
    assert not same(two, made(concepts="cat\ndog", guide="house\ntree"))
    assert not same(made(), made(expand=True))
    assert not same(made(expand=True), made(kind="style", guide="art", expand=True))
    assert not same(made(), made(form="2023"))
    with pytest.raises(ConfigError, match="3 lines of guides for 2 prompts"):
        made(concepts="cat\ndog", guide="a\nb\nc")
    with pytest.raises(ConfigError, match="'cat' cannot be edited and preserved at once"):
        made(preserve="cat\ndog")
