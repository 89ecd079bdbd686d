"""ESD on the real host: from a name alone, from pictures, and out of another text."""

from __future__ import annotations

from typing import Any

import pytest

from tverase_core.errors import ConfigError

pytestmark = pytest.mark.training
TINY = {
    "steps": 2,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "width": 64,
    "height": 64,
    "sample_steps": 3,
}


def erased(pack: Any, model: Any, clip: Any, **changes: Any) -> Any:
    """The node's vector, run as the host runs it."""
    from host_support.attack_steps import defaults
    from host_support.host_steps import node

    given = defaults(pack.NODE_CLASS_MAPPINGS["TVEraseESD"])
    return node(pack, "ESD", model=model, clip=clip, **{**given, **TINY, **changes})[0]


@pytest.mark.parametrize("family", ["SD 1", "SDXL"])
def test_it_needs_no_pictures(pack: Any, make_tiny_model: Any, tiny_clip: Any, family: str) -> None:
    from host_support import attack_steps as world
    from host_support.host_steps import same, weights

    model, clip = world.tiny_sdxl() if family == "SDXL" else (make_tiny_model(), tiny_clip)
    before = weights(model)
    made = erased(pack, model, clip)
    assert made.deltas
    assert all(".attn2." in key for key in made.deltas)
    assert made.provenance.concepts == ("a cat",)
    assert made.provenance.recipe["samples"] == {"guidance": 3.0, "steps": 3}
    assert same(weights(model), before)
    assert made.same_deltas(erased(pack, model, clip))
    assert not made.same_deltas(erased(pack, model, clip, sample_guidance=1.0))


def test_with_pictures_noise_is_added_to_them(
    pack: Any, make_tiny_model: Any, tiny_clip: Any
) -> None:
    from host_support.host_steps import pictures

    model = make_tiny_model()
    made = erased(pack, model, tiny_clip, concept_set=pictures())
    assert made.provenance.recipe["samples"] == "noised pictures"
    assert made.provenance.concepts == ("cat",)
    other = erased(pack, model, tiny_clip, concept_set=pictures(seed=6))
    assert not made.same_deltas(other)


@pytest.mark.parametrize(
    ("variant", "kinds"),
    [
        ("x", {"attn2"}),
        ("x-strict", {"attn2"}),
        ("selfattn", {"attn1"}),
        ("u", {"attn1", "other"}),
        ("full", {"attn1", "attn2", "other"}),
    ],
)
def test_every_variant_of_the_widget_trains_its_weights(
    pack: Any, make_tiny_model: Any, tiny_clip: Any, variant: str, kinds: set[str]
) -> None:
    from tverase_core.erasers.teaching import VARIANTS

    widget = pack.NODE_CLASS_MAPPINGS["TVEraseESD"].INPUT_TYPES()["required"]["variant"]
    assert widget[0] == list(VARIANTS)
    made = erased(pack, make_tiny_model(), tiny_clip, variant=variant)
    parts = [{"attn1", "attn2"} & set(key.split(".")) for key in made.deltas]
    assert {found.pop() if found else "other" for found in parts} == kinds
    narrow = all(".to_k." in key or ".to_v." in key for key in made.deltas)
    assert narrow == (variant == "x-strict")


def test_a_text_to_erase_from(pack: Any, make_tiny_model: Any, tiny_clip: Any) -> None:
    model = make_tiny_model()
    given: dict[str, Any] = {"prompts": "a hat\nthe hat"}
    one = erased(pack, model, tiny_clip, **given, erase_from="a cowboy")
    each = erased(pack, model, tiny_clip, **given, erase_from="a cowboy\na cowboy")
    assert one.same_deltas(each)
    assert one.provenance.recipe["erase_from"] == ["a cowboy"] * 2
    assert not one.same_deltas(erased(pack, model, tiny_clip, **given))
    for changes, words in (
        ({"erase_from": "a\nb\nc"}, "3 lines of `erase_from` for 2 prompts"),
        ({"erase_from": "a cowboy", "anchor": "null"}, "Set anchor to 'concept'"),
        ({"prompts": " "}, "There is no prompt"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ):
        with pytest.raises(ConfigError, match=words):
            erased(pack, model, tiny_clip, **{**given, **changes})
