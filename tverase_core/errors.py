"""The errors that the core raises on purpose.

Each is a `TveraseError` and also the built-in error a caller would expect, and carries the facts
as attributes, so that tests and nodes need not parse sentences.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

SHOWN = 5  # names listed in a sentence before "and n more"
# Letters of a word and of a sentence: names and values in strangers' files have any length.
LONGEST_WORD, LONGEST = 200, 8000
_OUTSIDE = __name__.removesuffix("tverase_core.errors")  # what holds the package


def listed(names: Sequence[str]) -> str:
    """The first few names, sorted, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return ", ".join(ordered[:SHOWN]) + more


class TveraseError(Exception):
    """Root of all errors raised on purpose by this project.

    ComfyUI names a pack's modules by their folder on the disk, and shows an error's module before
    its sentence: here `__module__` starts inside the pack. In the sentence, words that are too long
    for people are cut, and half characters, which no console takes, are written as their codes.
    """

    def __init_subclass__(cls) -> None:
        cls.__module__ = cls.__module__.removeprefix(_OUTSIDE)

    def __init__(self, sentence: str = "") -> None:
        short = re.sub(rf"(\S{{{LONGEST_WORD}}})\S+", r"\1...", sentence)[:LONGEST]
        super().__init__(short.encode(errors="backslashreplace").decode())


class KeyMismatchError(TveraseError, KeyError):
    """Two sets of weight names that should agree do not."""

    def __init__(self, sentence: str, missing: Sequence[str] = (), unexpected: Sequence[str] = ()):
        super().__init__(sentence)
        self.missing, self.unexpected = tuple(missing), tuple(unexpected)

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


class ShapeMismatchError(TveraseError, ValueError):
    """A tensor has another shape than its partner."""

    def __init__(
        self, sentence: str, key: str = "", expected: Sequence[int] = (), got: Sequence[int] = ()
    ):
        super().__init__(sentence)
        self.key, self.expected, self.got = key, tuple(expected), tuple(got)


class BaseMismatchError(TveraseError, ValueError):
    """A task vector meets a model that it was not made from."""


class NonFiniteError(TveraseError, ValueError):
    """A weight, a loss or an embedding holds NaN or infinity."""


class StrengthError(TveraseError, ValueError):
    """A strength is negative or not finite."""


class UnknownKeyError(TveraseError, KeyError):
    """A weight name that the model layout cannot place."""

    def __str__(self) -> str:
        return str(self.args[0])


class UnknownBlockError(TveraseError, ValueError):
    """A block or kind name that the model does not have."""


class EmptyMaskError(TveraseError, ValueError):
    """A block mask that selects nothing."""


class EmptyConceptSetError(TveraseError, ValueError):
    """A concept set without images."""


class ConfigError(TveraseError, ValueError):
    """Settings outside their range; all problems are reported together."""


class FormatError(TveraseError, ValueError):
    """A file that is not what it should be."""


class FormatVersionError(FormatError):
    """A file of a newer major format."""


class JudgeError(TveraseError, ValueError):
    """A judge that cannot see the concept, or fires where it must not."""


class InversionError(TveraseError, RuntimeError):
    """No embedding could be found that makes the base model draw the concept."""


class TextWidthError(TveraseError, ValueError):
    """Embedding vectors of another width than the text encoder's."""
