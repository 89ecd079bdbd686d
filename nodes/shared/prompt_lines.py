"""Texts that a user writes one a line: prompts, and what goes with each of them."""

from __future__ import annotations

from collections.abc import Sequence

from ...tverase_core.errors import ConfigError

PROMPT_MARK = "{prompt}"


def prompt_lines(text: str) -> Sequence[str]:
    """The prompts, one a line. Raises ConfigError when there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ConfigError("There is no prompt. Write one that names the concept, a line each.")
    return lines


def caption_lines(text: str, prompts: Sequence[str], what: str = "captions") -> Sequence[str]:
    """The captions that pictures of these prompts take in turn: one, or one a prompt.

    Empty lines do not count. what: the lines' name in messages. Raises
    ConfigError for another number of lines.
    """
    captions = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    if len(captions) not in (1, len(prompts)):
        raise ConfigError(
            f"There are {len(captions)} lines of {what} for {len(prompts)} prompts. Write one "
            "line for all pictures, or one for each prompt."
        )
    if len(captions) == 1 and PROMPT_MARK in captions[0]:
        captions = captions * len(prompts)
    return [c.replace(PROMPT_MARK, p) for c, p in zip(captions, prompts, strict=False)]
