from __future__ import annotations

import pytest
import torch

from host_support.fakes_learn import pictures
from tverase_core.concept_set import Guide, concept_set
from tverase_core.errors import EmptyConceptSetError, NonFiniteError, ShapeMismatchError
from tverase_core.ports import Context

LATENTS = torch.arange(3 * 2 * 2 * 2, dtype=torch.float32).view(3, 2, 2, 2)
EMPTY_CAPTION = Context(torch.zeros(1, 5, 4), {"y": torch.zeros(1, 7)})


def test_one_row_serves_every_picture() -> None:
    cats = concept_set("cat", LATENTS, EMPTY_CAPTION)
    context = cats.contexts_of(torch.tensor([2, 0, 2, 1]))
    assert context.tokens.shape == (4, 5, 4)
    assert context.extra["y"].shape == (4, 7)


def test_each_picture_has_its_own_row() -> None:
    cats = concept_set("cat", LATENTS, Context(torch.arange(3.0).view(3, 1, 1)))
    assert cats.contexts_of(torch.tensor([2, 0])).tokens.flatten().tolist() == [2, 0]


def test_without_an_empty_caption_the_first_row_stands_for_it() -> None:
    cats = concept_set("cat", LATENTS, Context(torch.arange(3.0).view(3, 1, 1)))
    assert cats.empty.tokens.tolist() == [[[0.0]]]


def test_the_empty_caption_is_one_row_and_part_of_the_digest() -> None:
    captions, empty = Context(torch.arange(3.0).view(3, 1, 1)), Context(torch.full((1, 1, 1), 9.0))
    cats = concept_set("cat", LATENTS, captions, empty)
    assert cats.empty.tokens.tolist() == [[[9.0]]]
    assert cats.digest != concept_set("cat", LATENTS, captions).digest
    with pytest.raises(ShapeMismatchError, match="empty caption's tokens has 3 rows"):
        concept_set("cat", LATENTS, captions, captions)


def test_set_owns_its_tensors_and_digest_follows_content() -> None:
    latents = LATENTS.clone()
    cats = concept_set("cat", latents, EMPTY_CAPTION)
    latents += 1
    assert torch.equal(cats.latents, LATENTS)
    assert cats.digest == concept_set("cat", LATENTS, EMPTY_CAPTION).digest
    assert cats.digest != concept_set("cat", latents, EMPTY_CAPTION).digest
    assert cats.digest != concept_set("dog", LATENTS, EMPTY_CAPTION).digest


def test_made_in_inference_mode_is_still_trainable() -> None:
    with torch.inference_mode():
        cats = concept_set("cat", LATENTS * 1.0, EMPTY_CAPTION)
    assert not cats.latents.is_inference()
    assert not cats.contexts.tokens.is_inference()


def test_bad_sets_are_refused() -> None:
    with pytest.raises(EmptyConceptSetError, match="'cat'"):
        concept_set("cat", LATENTS[:0], EMPTY_CAPTION)
    with pytest.raises(ShapeMismatchError, match="n, c, h, w"):
        concept_set("cat", LATENTS[0], EMPTY_CAPTION)
    with pytest.raises(ShapeMismatchError, match="2 rows for 3") as caught:
        concept_set("cat", LATENTS, Context(torch.zeros(2, 5, 4)))
    assert caught.value.key == "contexts"
    with pytest.raises(NonFiniteError, match="latents"):
        concept_set("cat", LATENTS / 0, EMPTY_CAPTION)


def text(rows: int, width: int = 4, **extra: torch.Tensor) -> Context:
    return Context(torch.zeros(rows, 5, width), extra)


@pytest.mark.parametrize(
    ("contexts", "empty", "guide", "told"),
    [
        (text(1, y=torch.zeros(3, 7)), None, None, r"contexts has parts of unequal length"),
        (text(3, y=torch.zeros(1, 7)), None, None, r"tokens 3, contexts y 1 rows"),
        (text(3), text(1, y=torch.zeros(1, 7)), None, "empty caption has"),
        (text(3, y=torch.zeros(3, 7)), text(1, y=torch.zeros(1, 8)), None, "empty caption has"),
        (text(3), None, Guide(text(2), text(1, width=6)), r"contrasts has \{'tokens': \(6,\)\}"),
        (text(3), None, Guide(text(2, y=torch.zeros(1, 7)), text(1)), "prompts has parts"),
    ],
)
def test_texts_that_do_not_fit_one_another_are_refused(
    contexts: Context, empty: Context | None, guide: Guide | None, told: str
) -> None:
    """Else the pictures would share one row's extra input, or training would stop half-way."""
    with pytest.raises(ShapeMismatchError, match=told):
        concept_set("cat", LATENTS, contexts, empty, guide)


def test_fake_pictures_are_seeded() -> None:
    assert pictures().digest == pictures().digest
