"""Texts as tokens of a CLIP, or an error where the host would leave a part out."""

from __future__ import annotations

import re
from typing import Any

from ....tverase_core.errors import ConfigError
from ..app.complaints import complaints_about

_MISSING = re.compile(r"embedding:(.+) does not exist")


def tokens_of(clip: Any, text: str, **options: Any) -> dict[str, Any]:
    """The CLIP's `tokenize`, by tower.

    The host logs an embedding that it does not find and goes on without it. Raises ConfigError
    then, with its name.
    """
    with complaints_about("does not exist, ignoring") as complaints:
        tokens: dict[str, Any] = clip.tokenize(text, **options)
    found = (_MISSING.search(complaint) for complaint in complaints)
    names = dict.fromkeys(name[1].split()[0] for name in found if name)
    if names:
        raise ConfigError(
            f"{text[:60]!r} names embeddings that ComfyUI does not find: {', '.join(names)}. It "
            "would go on without them. Put the file into models/embeddings, or correct the name."
        )
    return tokens
