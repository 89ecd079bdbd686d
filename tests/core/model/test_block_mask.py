"""Masks: coefficients, the text grammar, round trips."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import time

import pytest

from host_support.edit_samples import KEYS, LAYOUT
from tverase_core.errors import (
    ConfigError,
    EmptyMaskError,
    UnknownBlockError,
    UnknownKeyError,
)
from tverase_core.model.block_mask import BlockMask
from tverase_core.model.layout import KINDS, detect_layout
from tverase_core.model.mask_text import PRESETS, parse_mask

SD1 = (
    "TIME",
    *(f"IN{i:02d}" for i in range(12)),
    "M00",
    *(f"OUT{i:02d}" for i in range(12)),
    "FINAL",
)
FIRST_ATTENTION = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


def chosen(text: str) -> dict[str, float]:
    """Blocks at more than 0."""
    mask = parse_mask(text, SD1)
    values = {name: mask.blocks.get(name, mask.other_blocks) for name in SD1}
    return {name: value for name, value in values.items() if value}


def test_full_and_product() -> None:
    assert all(BlockMask.full().coefficient(key, LAYOUT) == 1 for key in KEYS)
    mask = BlockMask({"IN01": 0.5}, {"cross_attn": 0.5})
    assert mask.coefficient(FIRST_ATTENTION, LAYOUT) == 0.25


def test_every_coefficient_is_block_times_kind() -> None:
    mask = BlockMask({"IN01": 0.5, "M00": 0.0}, {"conv": 0.25}, (), 0.75, 0.5)
    for key in KEYS:
        block, kind = LAYOUT.locate(key)
        by_block = {"IN01": 0.5, "M00": 0.0}.get(block, 0.75)
        assert mask.coefficient(key, LAYOUT) == by_block * {"conv": 0.25}.get(kind, 0.5)


def test_cross_attention_selects_these_only() -> None:
    mask = BlockMask.cross_attention()
    assert {k for k in KEYS if mask.coefficient(k, LAYOUT)} == {k for k in KEYS if ".attn2." in k}


def test_last_matching_pattern_decides() -> None:
    mask = BlockMask(patterns=((r"attn2", 0.3), (r"to_k", 0.7)), other_blocks=0.0)
    assert mask.coefficient(FIRST_ATTENTION, LAYOUT) == 0.7
    assert mask.coefficient(FIRST_ATTENTION.replace("to_k", "to_v"), LAYOUT) == 0.3
    assert mask.coefficient(KEYS[0], LAYOUT) == 0


def test_unknown_key_is_an_error_even_under_a_pattern() -> None:
    with pytest.raises(UnknownKeyError):
        BlockMask(patterns=((".", 1.0),)).coefficient("vae.conv.weight", LAYOUT)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("IN01-IN03", {"IN01": 1, "IN02": 1, "IN03": 1}),
        ("M00=0.5", {"M00": 0.5}),
        ("in04, m00", {"IN04": 1, "M00": 1}),
        ("IN11-OUT00", {"IN11": 1, "M00": 1, "OUT00": 1}),
        ("OUT1?", {"OUT10": 1, "OUT11": 1}),
        ("!IN* ; !OUT*", {"TIME": 1, "M00": 1, "FINAL": 1}),
        ("IN0* = 0.25\n# the end\nIN01", {f"IN{i:02d}": 0.25 if i != 1 else 1 for i in range(10)}),
        ("IN01-IN03, !IN02", {"IN01": 1, "IN03": 1}),
        ("M00, M00=0.5", {"M00": 0.5}),
        ("full, M00=0.5", {name: 0.5 if name == "M00" else 1 for name in SD1}),
        ("*=0.25, M00", {name: 1 if name == "M00" else 0.25 for name in SD1}),
        ("!IN03", {name: 1 for name in SD1 if name != "IN03"}),
        ("IN03=0", {name: 1 for name in SD1 if name != "IN03"}),
        ("middle", {"M00": 1}),
        ("encoder=0.5", {f"IN{i:02d}": 0.5 for i in range(12)}),
        ("full=0.5", dict.fromkeys(SD1, 0.5)),
        ("!encoder, !decoder", {"TIME": 1, "M00": 1, "FINAL": 1}),
    ],
)
def test_grammar_of_blocks(text: str, wanted: dict[str, float]) -> None:
    assert chosen(text) == wanted


def test_grammar_of_kinds_and_patterns() -> None:
    assert parse_mask("kind:cross_attn", SD1) == BlockMask.cross_attention()
    assert parse_mask("cross_attention", SD1) == BlockMask.cross_attention()
    assert parse_mask("attention, IN01", SD1) == BlockMask.only(
        ["IN01"], ["self_attn", "cross_attn"]
    )
    assert parse_mask("no_norm", SD1) == BlockMask(kinds={"norm": 0.0})
    assert parse_mask("full", SD1) == BlockMask.full()
    assert parse_mask("/attn2/=0.3", SD1) == BlockMask({}, {}, (("attn2", 0.3),), 0.0)
    assert parse_mask("full, /attn2/=0.3", SD1) == BlockMask({}, {}, (("attn2", 0.3),))
    assert parse_mask("!/attn2/", SD1) == BlockMask({}, {}, (("attn2", 0.0),))


def test_patterns_may_hold_separators() -> None:
    mask = parse_mask(r"full, /a{1,2}=b;c#d/=0.5, !/x,y/", SD1)
    assert mask.patterns == (("a{1,2}=b;c#d", 0.5), ("x,y", 0.0))


def test_a_pattern_that_never_ends_is_read_in_time() -> None:
    """Time grows with the text's length, not with the ways of reading it."""
    began = time.process_time()
    for text in (
        "/blocks." + r"\d+\cks\." * 200 + "\nb",
        "\n" * 20_000 + "full",
        "/" * 2_000 + "\n",
    ):
        with contextlib.suppress(ConfigError, EmptyMaskError, UnknownBlockError):
            parse_mask(text, LAYOUT.blocks())
    assert time.process_time() - began < 5


def test_generic_block_names() -> None:
    names = detect_layout(
        [f"diffusion_model.double_blocks.{i}.mod.weight" for i in range(12)]
    ).blocks()
    mask = parse_mask("double_blocks.9-double_blocks.11", names)
    assert tuple(mask.blocks) == ("double_blocks.10", "double_blocks.11", "double_blocks.9")
    with pytest.raises(UnknownBlockError):
        parse_mask("IN*", names)


@pytest.mark.parametrize(
    ("text", "hint"),
    [("OUT5", "'OUT05'"), ("IN01-IN44", "'IN"), ("IM03", "'IN03'"), ("M0", "'M00'")],
)
def test_unknown_block_gets_a_suggestion(text: str, hint: str) -> None:
    with pytest.raises(UnknownBlockError, match="Did you mean") as error:
        parse_mask(text, SD1)
    assert hint in str(error.value)


def test_unknown_kind_gets_a_suggestion() -> None:
    with pytest.raises(UnknownBlockError, match="'cross_attn'"):
        parse_mask("kind:crossattn", SD1)
    with pytest.raises(UnknownBlockError, match="'norm'"):
        BlockMask(kinds={"norms": 1.0})


@pytest.mark.parametrize("text", ["", " \n ,", "# nothing", "!*", "*=0", "!full", "!kind:*"])
def test_empty_mask(text: str) -> None:
    with pytest.raises(EmptyMaskError):
        parse_mask(text, SD1)


@pytest.mark.parametrize(
    "text",
    ["IN01=2", "IN01=-0.1", "IN01=nan", "IN01=half", "!IN01=0.5", "/(/", "IN05-IN01", "!no_norm"],
)
def test_malformed_rules(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_mask(text, SD1)


def test_empty_and_malformed_masks_in_code() -> None:
    with pytest.raises(EmptyMaskError):
        BlockMask.only()
    with pytest.raises(EmptyMaskError):
        BlockMask(other_kinds=0.0)
    with pytest.raises(ConfigError):
        BlockMask({"IN01": True})
    with pytest.raises(UnknownBlockError, match="IN77"):
        BlockMask({"IN77": 0.5}).check(SD1)


def test_presets_parse_for_known_models() -> None:
    for preset in PRESETS:
        if preset != "text_encoder":
            parse_mask(preset, SD1)
    assert parse_mask("text_encoder", (*SD1, "TE_L00")) == BlockMask.only(["TE_L00"])


def test_a_model_without_text_encoder_is_named_without_inner_names() -> None:
    with pytest.raises(UnknownBlockError, match=r"has none\. It has: .*M00") as refusal:
        parse_mask("text_encoder", SD1)
    assert "TE_" not in str(refusal.value)


def random_mask(source: random.Random) -> BlockMask | None:
    def some(names: tuple[str, ...]) -> dict[str, float]:
        picked = source.sample(names, source.randint(0, 3))
        return {name: source.choice([0.0, 0.1, 0.5, 1 / 3, 1.0]) for name in picked}

    patterns = tuple(
        (source.choice(["attn2", r"to_[kv]\.", "a{1,2}", "x=1"]), source.choice([0.0, 0.3, 1.0]))
        for _ in range(source.randint(0, 2))
    )
    others = source.choice([0.0, 0.25, 1.0]), source.choice([0.0, 0.25, 1.0])
    try:
        return BlockMask(some(SD1), some(KINDS), patterns, *others)
    except EmptyMaskError:
        return None


def test_round_trips_and_hash() -> None:
    source = random.Random(7)
    masks = [mask for mask in (random_mask(source) for _ in range(1500)) if mask]
    assert len(masks) > 1000
    for mask in masks:
        assert parse_mask(mask.to_text(), SD1) == mask, mask.to_text()
        again = BlockMask.from_mapping(json.loads(mask.to_json()))
        assert again == mask
        assert hash(again) == hash(mask)
    for one, two in itertools.pairwise(masks):
        assert (one == two) == (one.to_json() == two.to_json()) == (one.to_text() == two.to_text())


def test_entries_that_repeat_the_default_do_not_matter() -> None:
    assert BlockMask({"IN01": 1.0}, {"norm": 1}) == BlockMask.full()
    assert len({BlockMask({"IN01": 1.0}), BlockMask.full()}) == 1
    assert BlockMask({"IN01": -0.0}) == BlockMask({"IN01": 0.0})
