"""Anima: beside each text its words by another tokenizer, and one text a batch."""

from __future__ import annotations

from typing import Any

import torch

from host_support.tiny_flow import TEXT, build
from tverase_core.ports import Context

WORDS = {"short": [5, 7, 1], "long": [5, 9, 11, 0, 1], "as short": [5, 8, 1]}


def reader() -> Any:
    """A MODEL of a family that every host has, with what marks Anima's network."""
    model = build("cosmos-predict2")
    model.model.diffusion_model.preprocess_text_embeds = None
    return model


def given(words: list[int]) -> dict[str, Any]:
    """As Anima's CLIP gives it."""
    ids = torch.tensor(words, dtype=torch.int)
    weights = torch.linspace(0.5, 1.5, len(words))
    return {"cond": torch.full((1, 4, TEXT), 0.1 * len(words)), "t5xxl_ids": ids} | {
        "t5xxl_weights": weights
    }


def contexts(*names: str) -> Context:
    from tverase_pack.nodes.host.model.conditioning import to_context

    return to_context(reader(), [given(WORDS[name]) for name in names])


def test_words_come_back_as_they_were_given(pack: Any, comfy_host: Any) -> None:
    from tverase_pack.nodes.host.model.conditioning import as_given

    for rows, even in contexts("short", "long").even():
        (name,) = [list(WORDS)[row] for row in rows.tolist()]
        back, wanted = as_given(even), given(WORDS[name])
        assert torch.equal(back["t5xxl_ids"], wanted["t5xxl_ids"])
        assert torch.equal(back["t5xxl_weights"], wanted["t5xxl_weights"])


def test_pictures_of_one_text_are_drawn_together_and_no_others(pack: Any, comfy_host: Any) -> None:
    from tverase_pack.nodes.host.drawing.sampling import drawn_together
    from tverase_pack.nodes.host.model.conditioning import conditioning

    rows = contexts("short", "long", "as short").pick(torch.tensor([0, 1, 0, 1, 1, 2]))
    batches = list(drawn_together(rows, 6, 4))
    assert sorted(batch.tolist() for batch in batches) == [[0, 2], [1, 3], [4], [5]]
    of_one_length = drawn_together(contexts("short", "as short"), 2, 4)
    assert sorted(batch.tolist() for batch in of_one_length) == [[0], [1]]
    _, even = next(iter(rows.pick(batches[0]).even()))
    ((tokens, beside),) = conditioning(even)
    assert tokens.shape == (1, 4, TEXT)
    assert beside["t5xxl_ids"].ndim == 1


def test_a_word_of_number_0_is_no_padding(pack: Any, comfy_host: Any) -> None:
    from tverase_pack.nodes.host.model.conditioning import is_masked

    assert not is_masked(contexts("long"))
