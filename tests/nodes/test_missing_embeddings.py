"""Embeddings that a text names and ComfyUI does not find: an error, where the host only logs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tverase_core.errors import ConfigError


@pytest.fixture
def clip(tiny_clip: Any, tmp_path: Path) -> Iterator[Any]:
    """The tiny CLIP with one embedding, `ghost`, in its folder."""
    save_file({"emb_params": torch.ones(1, 32)}, tmp_path / "ghost.safetensors")
    tokenizer = tiny_clip.tokenizer.clip_l
    before, tokenizer.embedding_directory = tokenizer.embedding_directory, [str(tmp_path)]
    yield tiny_clip
    tokenizer.embedding_directory = before


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("a embedding:nobody cat", "nobody"),
        ("embedding:ghost and embedding:nobody", "nobody"),
        ("(embedding:nobody:1.3)", "nobody"),
        ("embedding:one embedding:two", "one, two"),
    ],
)
def test_missing_ones_are_named(
    pack: Any, make_tiny_model: Any, clip: Any, text: str, missing: str
) -> None:
    from tverase_pack.nodes.host.model.conditioning import encode_texts
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    encoder = HostTextEncoder(make_tiny_model(), clip)
    for encode in (lambda: encode_texts(clip, [text]), lambda: encoder.encode([text])):
        with pytest.raises(ConfigError, match=f"does not find: {missing}\\."):
            encode()


def test_those_that_are_there_are_used(pack: Any, clip: Any) -> None:
    from tverase_pack.nodes.host.text.tokens import tokens_of

    row = tokens_of(clip, "a embedding:ghost cat")["l"][0]
    assert sum(torch.is_tensor(token) for token, *_ in row) == 1
    assert tokens_of(clip, "an embedding is a vector")["l"]  # the word alone names none
