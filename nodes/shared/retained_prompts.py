"""Retained prompts as people type them: one a line, `prompt | name the judge knows`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...tverase_core.errors import ConfigError
from .widgets import Widget, text

RETAINED: Widget = text(
    "a dog | dog\na tree | tree\na house | house",
    "What must stay, one prompt a line. Behind the | the name by which the judge "
    "knows it; without one, the prompt less its article.",
    multiline=True,
)

# Thai, Japanese, Chinese, Korean: no space before and after a word.
_UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@dataclass(frozen=True, slots=True)
class RetainedPrompts:
    """prompts and what the judge should see in each; warnings in whole sentences."""

    prompts: tuple[str, ...]
    concepts: tuple[str, ...]
    warnings: tuple[str, ...]


def parse_retained(text: str, concept: str) -> RetainedPrompts:
    """Raises ConfigError when there is no prompt, or a line names no prompt or no concept."""
    prompts, names = parse_prompts(text, "Retained prompts")
    if not prompts:
        raise ConfigError(
            "There are no retained prompts. Write what must stay, one a line, such as `a dog | dog`"
        )
    return RetainedPrompts(tuple(prompts), tuple(names), warnings_about(prompts, names, concept))


def parse_prompts(text: str, title: str) -> tuple[list[str], list[str]]:
    """(prompts, what the judge should see in each); title: of the list, for the message.

    Raises ConfigError when a line names no prompt or no concept.
    """
    prompts, names = [], []
    for line in filter(None, map(str.strip, text.splitlines())):
        prompt, bar, name = (part.strip() for part in line.rpartition("|"))
        if not bar:
            prompt, name = name, re.sub(r"^(an?|the)\s+", "", name, flags=re.IGNORECASE)
        if not prompt or not name:
            raise ConfigError(
                f"{title}: {line!r} lacks a part. Write `a dog | dog`: the prompt, a bar, "
                "and the name by which the judge knows what should be seen."
            )
        prompts.append(prompt)
        names.append(name)
    return prompts, names


def warnings_about(prompts: list[str], names: list[str], concept: str) -> tuple[str, ...]:
    """Prompts that hold the erased concept's own words cannot be kept."""
    own = re.escape(concept.strip())
    word = re.compile(own if _UNSPACED.search(concept) else rf"\b{own}s?\b", re.IGNORECASE)
    found = [
        prompt
        for prompt, name in zip(prompts, names, strict=True)
        if concept.strip() and (word.search(prompt) or word.search(name))
    ]
    return tuple(
        f"Warning: the retained prompt {prompt!r} contains the erased concept {concept!r}. It "
        "cannot stay as it is, so it makes the search weaker or infeasible. Take it out."
        for prompt in found
    )
