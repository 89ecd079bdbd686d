"""Which contexts UCE edits: in the form of 2025 one a name, of 2023 all to the row's end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch

from tverase_core.erasers.uce_rows import EXPANSIONS, at_positions, expanded, last_words, uce_rows
from tverase_core.errors import ConfigError
from tverase_core.ports import Context

LENGTH = 9


class CountingEncoder:
    """Position i of a text's row is (i, number of words); words are at 1, 2, ..."""

    def widths(self) -> Mapping[str, int]:
        return {"l": 2}

    def last_tokens(self, texts: Sequence[str], tower: str) -> list[int]:
        return [len(text.split()) for text in texts]

    def encode(self, texts: Sequence[str]) -> Context:
        rows = [[[float(i), float(len(t.split()))] for i in range(LENGTH)] for t in texts]
        return Context(torch.tensor(rows))


def rows(*args: Any, form: Any = "2025") -> Any:
    return uce_rows(CountingEncoder(), "l", *args, form=form)  # type: ignore[arg-type]


def test_one_context_a_name_and_the_start_mark_for_an_empty_guide() -> None:
    made = rows(["red heart", "cat"], ["", "a big dog"], ["tree"])
    assert made.concept.tolist() == [[2.0, 2.0], [1.0, 1.0]]
    assert made.guide.tolist() == [[0.0, 0.0], [3.0, 3.0]]
    assert made.preserve.tolist() == [[1.0, 1.0]]
    assert made.preserve_scale == 1
    assert rows(["cat"], [""], []).preserve.shape == (0, 2)


def test_the_form_of_2023_goes_on_to_the_end_and_keeps_the_empty_text() -> None:
    made = rows(["red heart", "cat"], ["", "a big dog"], ["tree"], form="2023")
    # Positions 2 to 8 beside 0 to 6, then 1 to 6 beside 3 to 8: as many as the shorter tail has.
    assert made.concept[:, 0].tolist() == [*range(2, 9), *range(1, 7)]
    assert made.guide[:, 0].tolist() == [*range(7), *range(3, 9)]
    assert made.concept[:, 1].tolist() == [2.0] * 7 + [1.0] * 6
    assert made.guide[:, 1].tolist() == [0.0] * 7 + [3.0] * 6
    assert made.preserve[:, 1].tolist() == [0.0] * LENGTH + [1.0] * LENGTH
    assert made.preserve_scale == 0.5
    assert rows(["cat"], [""], ["tree"] * 30, form="2023").preserve_scale == 0.1


@pytest.mark.parametrize("kind", ["object", "style"])
def test_every_sentence_ends_in_the_name_and_has_its_guide(kind: Any) -> None:
    names, guides = expanded(["red heart", "cat"], ["", "dog"], kind)
    assert len(names) == len(set(names)) == 2 * (1 + len(EXPANSIONS[kind])) == 12
    assert names[0] == "red heart"
    assert all(name.endswith("red heart") for name in names[:6])
    assert all(name.endswith("cat") for name in names[6:])
    assert guides == [""] * 6 + ["dog"] * 6


@pytest.mark.parametrize("form", ["2025", "2023"])
def test_a_name_without_tokens_is_refused(form: Any) -> None:
    with pytest.raises(ConfigError, match="finds no word in '  '"):
        rows(["cat", "  "], ["", ""], [], form=form)
    with pytest.raises(ConfigError, match="finds no word in '  '"):
        last_words(CountingEncoder(), ["  "], "l")  # type: ignore[arg-type]


def test_positions_outside_the_row_are_refused() -> None:
    context = Context(torch.zeros(1, 3, 2))
    for places in ([3], [-1], [0, 1]):
        with pytest.raises(ConfigError, match=r"expected 1 in 0\.\.2"):
            at_positions(context, places)
