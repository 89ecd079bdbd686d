"""Which pictures of a concept set are shown under a caption, on the real host."""

from __future__ import annotations

from typing import Any

import pytest
import torch

COUNT = 4


def built(pack: Any, model: Any, clip: Any, **changed: Any) -> Any:
    """The concept set of four latents."""
    from host_support.host_steps import node

    given = {"model": model, "clip": clip, "concept": "cat", "caption": "", **changed}
    latents = {"samples": torch.randn(COUNT, 4, 8, 8, generator=torch.Generator().manual_seed(1))}
    return node(pack, "ConceptSetFromLatents", latents=latents, **given)[0]


@pytest.mark.parametrize("captions", [1, 3, 8])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.95, 1.0])
def test_every_caption_has_its_share(pack: Any, captions: int, share: float) -> None:
    from tverase_pack.nodes.concept.building import caption_turns

    rows = caption_turns(captions * 40, captions, share)
    turns = torch.arange(captions * 40) % captions
    shown = rows < captions
    assert torch.equal(rows[shown], turns[shown])  # each in its own turn, or none
    assert (
        rows.bincount(minlength=captions + 1)[:captions].tolist() == [round(40 * share)] * captions
    )


@pytest.mark.parametrize("count", [1, 7, 20, 100])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_part_of_a_round_has_about_its_share(pack: Any, count: int, share: float) -> None:
    from tverase_pack.nodes.concept.building import caption_turns

    for captions in (16, 100):
        shown = int((caption_turns(count, captions, share) < captions).sum())
        assert abs(shown - count * share) <= max(1.0, captions * 0.5)


def test_without_a_caption_all_pictures_share_the_empty_one(
    pack: Any, tiny_model: Any, tiny_clip: Any
) -> None:
    pictures = built(pack, tiny_model, tiny_clip, caption_share=0.5)
    assert len(pictures.contexts.tokens) == 1
    assert torch.equal(pictures.contexts.tokens, pictures.empty.tokens)


def test_half_of_the_pictures_carry_the_caption(pack: Any, tiny_model: Any, tiny_clip: Any) -> None:
    bare = built(pack, tiny_model, tiny_clip).contexts.tokens
    whole = built(pack, tiny_model, tiny_clip, caption="a cat").contexts.tokens
    half = built(pack, tiny_model, tiny_clip, caption="a cat", caption_share=0.5)
    assert len(whole) == 1  # one row serves all
    assert len(half.contexts.tokens) == COUNT
    assert torch.equal(half.contexts.tokens[::2], whole.expand(COUNT // 2, -1, -1))
    assert torch.equal(half.contexts.tokens[1::2], bare.expand(COUNT // 2, -1, -1))
    assert torch.equal(half.empty.tokens, bare)
    assert not torch.equal(whole[0], bare[0])


def test_the_guide_is_the_caption_also_where_pictures_are_shown_without(
    pack: Any, tiny_model: Any, tiny_clip: Any
) -> None:
    whole = built(pack, tiny_model, tiny_clip, caption="a cat")
    bare = built(pack, tiny_model, tiny_clip, caption="a cat", caption_share=0.0)
    for pictures in (whole, bare):
        assert torch.equal(pictures.guide.prompts.tokens, whole.contexts.tokens)
        assert torch.equal(pictures.guide.contrasts.tokens, bare.contexts.tokens)
    assert built(pack, tiny_model, tiny_clip).guide is None


def test_prompts_guide_and_captions_do_not(pack: Any, tiny_model: Any, tiny_clip: Any) -> None:
    from tverase_pack.nodes.concept.building import build_concept_set

    latents = torch.zeros(COUNT, 4, 8, 8)
    texts = ["a cat in ink", "a dog in ink"], ["a cat", "a dog"]
    parts = tiny_model, tiny_clip, latents, "ink"
    style = build_concept_set(*parts, texts[1], 1.0, *texts)
    plain = build_concept_set(*parts, texts[0], 1.0, *texts)
    rows = torch.arange(2)
    assert torch.equal(style.guide.contrasts.tokens, style.contexts.pick(rows).tokens)
    assert torch.equal(style.guide.prompts.tokens, plain.contexts.pick(rows).tokens)


def test_captions_are_one_for_all_or_one_a_prompt(pack: Any) -> None:
    from tverase_pack.nodes.shared.prompt_lines import caption_lines
    from tverase_pack.tverase_core.errors import ConfigError

    prompts = ["a cat in ink style", "a dog in ink style"]
    assert caption_lines("", prompts) == [""]
    assert caption_lines("a picture", prompts) == ["a picture"]
    assert caption_lines("{prompt}!", prompts) == [f"{prompt}!" for prompt in prompts]
    assert caption_lines("a cat\na dog\n", prompts) == ["a cat", "a dog"]
    with pytest.raises(ConfigError, match="3 lines of captions for 2 prompts"):
        caption_lines("a\nb\nc", prompts)
