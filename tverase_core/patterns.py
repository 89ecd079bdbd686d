"""Regular expressions of strangers: none that Python's matcher could try for ever.

Files and texts hold patterns for names of weights. Python tries every way in which a pattern can
match, and a short one can have more ways than there is time for.
"""

from __future__ import annotations

import math
import re

LONGEST = 500  # characters of a pattern
MOST_WAYS = 1e6  # to try on one name; about 10 ms
_NAME = 70  # characters of a usual name
_TOKEN = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?(?:P?<\w+>|[:=!]|<[=!]))?|[*+?][?+]?|\{[\d,]+\}[?+]?|.",
    re.DOTALL,
)


def check_pattern(pattern: str) -> None:
    """Raises ValueError for what is no regular expression, and for one that has too many ways."""
    if len(pattern) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is not a regular expression: {error}") from error
    ways = _ways(pattern)
    if ways > MOST_WAYS:
        raise ValueError(
            "can match a name in too many ways. Use at most two of '.*' and the like, and repeat "
            "no group"
        )


def _ways(pattern: str) -> float:
    """An upper bound of the ways to try on a name, infinite where a group is repeated."""
    wide, factor, before, open_groups = 0, 1.0, "", [1]
    for token in _TOKEN.findall(pattern):
        if token[0] in "*+{" and before:
            if before == ")":
                return math.inf
            narrow = before == r"\d" or (len(before) == 1 and before != ".")
            exact = token[0] == "{" and "," not in token
            wide += not (narrow or exact)
            factor *= 3 if narrow and not exact else 1
        elif token[0] == "?" and before:
            factor *= 2
        elif token[0] == "(":
            open_groups.append(1)
        elif token == "|":
            open_groups[-1] += 1
        elif token == ")" and len(open_groups) > 1:
            factor *= open_groups.pop()
        before = "" if token[0] in "*+?{(|" else token
    tried = math.prod(float(_NAME) / n for n in range(1, wide + 2))
    return tried * factor * math.prod(open_groups)
