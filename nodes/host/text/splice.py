"""Where in a prompt learned vectors go: where the host's own tokenizer puts an embedding's."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ....tverase_core.errors import ConfigError
from .tokens import tokens_of
from .towers import Tower

NAME = "tverase-learned-vectors"  # of an embedding that only our copies of tokenizers find
Rows = list[list[tuple[Any, float]]]  # (token or embedding or Mark, weight), as the host has them


class Mark:
    """Stands for one learned vector. A tensor in its place would stop chat templates, which
    compare every token with a number."""

    def __init__(self, number: int):
        self.number = number


def marked_rows(
    clip: Any, towers: Sequence[Tower], template: str, count: int
) -> Mapping[str, Rows]:
    """The template's tokens as `tokenize` gives them, `count` Marks where {} stands.

    The host itself reads them, as the embedding of a file, so that they stand where an exported
    one will: with its chat template, its way to split sentences, its padding. Raises ConfigError
    when a tower does not find them all in its first row of tokens.
    """
    tokens_of(clip, template.replace("{}", ""))  # complains of embeddings that are not there
    with tempfile.TemporaryDirectory() as folder:
        keys = {tower.tokenizer.embedding_key for tower in towers}
        held = {key: torch.full((count, 1), torch.nan) for key in keys}
        save_file(held, Path(folder) / f"{NAME}.safetensors")
        reader = copy.copy(clip)
        reader.tokenizer = _reading(clip.tokenizer, folder)
        # With the space the name ends where it should, also before `'s` and a template's mark.
        tokens = reader.tokenize(template.replace("{}", f"embedding:{NAME} "), return_word_ids=True)
    places = {tower.place for tower in towers}
    for tower in towers:
        _check(tower, tokens[tower.place], template, count)
    return {
        place: [
            [
                (token, weight)
                for token, weight, *_ in row
                if place in places or not isinstance(token, Mark)
            ]
            for row in rows
        ]
        for place, rows in tokens.items()
    }


def filled(
    rows: Mapping[str, Rows], towers: Sequence[Tower], vectors: Mapping[str, torch.Tensor]
) -> dict[str, Rows]:
    """The rows with vectors [t, d] by tower in place of their Marks."""
    given = {tower.place: (tower, vectors[tower.name]) for tower in towers}

    def put(place: str, token: Any) -> Any:
        if not isinstance(token, Mark):
            return token
        tower, value = given[place]
        vector = value[token.number]
        return vector if tower.is_clip else {"type": "embedding", "data": vector[None]}

    return {
        place: [[(put(place, token), weight) for token, weight in row] for row in lines]
        for place, lines in rows.items()
    }


def _reading(tokenizer: Any, folder: str) -> Any:
    """A copy of the host's tokenizer, of which every part finds embeddings in this folder too."""
    made = copy.copy(tokenizer)
    for name, part in vars(tokenizer).items():
        if hasattr(part, "embedding_key"):
            reader = copy.copy(part)
            own = part.embedding_directory or []
            reader.embedding_directory = [*([own] if isinstance(own, str) else own), folder]
            reader.tokenize_with_weights = partial(_marking, reader.tokenize_with_weights)
            setattr(made, name, reader)
    return made


def _marking(tokenize: Any, *words: Any, **options: Any) -> list[list[tuple[Any, ...]]]:
    """What the host's `tokenize_with_weights` gives, our embedding's vectors as Marks."""
    made, number = [], 0
    for row in tokenize(*words, **options):
        made.append([])
        for token, *rest in row:
            if torch.is_tensor(token) and bool(token.isnan().all()):
                token, number = Mark(number), number + 1
            made[-1].append((token, *rest))
    return made


def _check(tower: Tower, rows: list[list[tuple[Any, ...]]], template: str, count: int) -> None:
    needed = sum(1 for row in rows for _, _, word in row if word)
    if tower.is_clip and len(rows) > 1:
        places = tower.tokenizer.max_length - 2  # but for the marks of start and end
        raise ConfigError(
            f"The template with {count} vectors needs {needed} tokens, the text encoder takes "
            f"{places}. Shorten the template or use fewer vectors."
        )
    if sum(isinstance(token, Mark) for token, *_ in rows[0]) != count:
        raise ConfigError(
            f"In {template!r} ComfyUI would find no embedding in place of {{}} for the text "
            f"encoder {tower.name}, or not the whole of it: put a word and a space before {{}}, "
            "such as 'a {}', and keep the text short."
        )
