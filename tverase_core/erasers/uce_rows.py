"""Which contexts UCE edits, keeps and takes for guides, as the code of arXiv 2308.14761 does.

The code of 2025 takes one context a text, that of its last word. The code of 2023, which the
paper's figures were made with, takes every position from the last word to the end of the row, end
mark and padding included, and keeps names whole. Symbols: d text width, s positions of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import ConfigError
from ..ports import Context, TextEncoder

Form = Literal["2025", "2023"]
# Our own wording; the authors have five sentences of each kind too. Each ends in the name.
EXPANSIONS = {
    "object": ("a photo of {}", "a picture of {}", "a drawing of {}", "an image of {}", "one {}"),
    "style": (
        "a painting by {}",
        "a drawing by {}",
        "a work by {}",
        "a picture after {}",
        "in the style of {}",
    ),
}
DEFAULT_GUIDES = {"object": "", "style": "art"}  # the authors'


@dataclass(frozen=True, slots=True)
class UceRows:
    """concept, guide: float [n, d], row i of one to act like row i of the other; preserve: float
    [p, d], p may be 0; preserve_scale: of the weight of preserved rows, by that code's rule."""

    concept: Tensor
    guide: Tensor
    preserve: Tensor
    preserve_scale: float = 1.0


def uce_rows(
    encoder: TextEncoder,
    tower: str,
    concepts: Sequence[str],
    guides: Sequence[str],
    preserve: Sequence[str],
    form: Form = "2025",
) -> UceRows:
    """The contexts of names, of what each shall act like, and of names to keep.

    tower: whose tokenizer splits the texts. guides: one for each concept; an empty one is the
    context of no prompt, from the start mark on. Form "2023" keeps the empty text too.
    Raises ConfigError for a text without tokens that is not empty.
    """
    if form == "2025":
        kept = last_words(encoder, preserve, tower)
        rows = [last_words(encoder, texts, tower) for texts in (concepts, guides)]
        return UceRows(rows[0], rows[1], kept if len(preserve) else rows[0][:0])
    places = [_places(encoder, texts, tower) for texts in (concepts, guides)]
    texts = [encoder.encode([one]).tokens[0] for one in (*concepts, *guides)]
    named, shown = texts[: len(concepts)], texts[len(concepts) :]
    pairs = [_tails(*pair) for pair in zip(named, places[0], shown, places[1], strict=True)]
    kept = torch.cat([encoder.encode([one]).tokens[0] for one in ("", *preserve)])
    mine, theirs = (torch.cat(side).detach() for side in zip(*pairs, strict=True))
    return UceRows(mine, theirs, kept.detach(), max(0.1, 1 / (1 + len(preserve))))


def expanded(
    concepts: Sequence[str], guides: Sequence[str], kind: Literal["object", "style"]
) -> tuple[list[str], list[str]]:
    """(each concept and five sentences that end in it, its guide for all of them)."""
    sentences = ("{}", *EXPANSIONS[kind])
    names = [sentence.format(name) for name in concepts for sentence in sentences]
    return names, [guide for guide in guides for _ in sentences]


def last_words(encoder: TextEncoder, texts: Sequence[str], tower: str) -> Tensor:
    """The context at each text's last word token, float [n, d]; of an empty text, position 0, the
    start mark. Raises ConfigError for another text without tokens."""
    if not texts:
        return torch.zeros(0, encoder.widths()[tower])
    return at_positions(encoder.encode(texts), _places(encoder, texts, tower))


def _places(encoder: TextEncoder, texts: Sequence[str], tower: str) -> list[int]:
    places = encoder.last_tokens(texts, tower)
    for text, place in zip(texts, places, strict=True):
        if text and not place:
            raise ConfigError(
                f"UCE: the text encoder finds no word in {text!r}, so there is no word to edit or "
                "keep. Brackets set the weight of what is in them; write \\( and \\) for brackets "
                "that belong to a name, and check that an embedding it names is there."
            )
    return places


def _tails(mine: Tensor, place: int, theirs: Tensor, other: int) -> tuple[Tensor, Tensor]:
    """Both rows [s, d] from their last word on, as many positions of each as the shorter has."""
    count = min(len(mine) - place, len(theirs) - other)
    return mine[place : place + count], theirs[other : other + count]


def at_positions(context: Context, positions: Sequence[int]) -> Tensor:
    """Row i of the context at positions[i], float [n, d]. Raises ConfigError outside 0..s-1."""
    tokens = context.tokens
    if len(positions) != len(tokens) or not all(0 <= i < tokens.shape[1] for i in positions):
        raise ConfigError(
            f"last word positions: expected {len(tokens)} in 0..{tokens.shape[1] - 1}, "
            f"got {list(positions)[:5]}"
        )
    return tokens[torch.arange(len(tokens)), torch.tensor(list(positions))].detach()
