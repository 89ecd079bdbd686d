"""What UCE Debiasing is told, and what it tells, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...tverase_core.errors import ConfigError

if TYPE_CHECKING:
    from ...tverase_core.erasers.uce_debias import DebiasResult


def shares_of(text: str) -> tuple[list[str], list[float]]:
    """(names, shares) of lines such as `cat | 0.5`. Raises ConfigError for other lines."""
    names, shares = list[str](), list[float]()
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, share = (part.strip() for part in line.partition("|"))
        try:
            shares.append(float(share))
        except ValueError:
            raise ConfigError(
                f"attributes: {line!r} is not a name, a bar and a share. Write `cat | 0.5`."
            ) from None
        names.append(name)
    return names, shares


def report(made: DebiasResult, prompts: Sequence[str], names: Sequence[str]) -> str:
    """The first and the last shares of each prompt, and whether they are as wanted."""
    last = made.shares[-1]
    lines = [
        f"{prompt!r}: "
        + ", ".join(
            f"{name} {float(made.shares[0][i, j]):.0%} to {float(last[i, j]):.0%}"
            for j, name in enumerate(names)
        )
        for i, prompt in enumerate(prompts)
    ]
    ended = (
        f"as wanted after {len(made.shares) - 1} edits"
        if made.reached
        else f"not as wanted after {len(made.shares)} rounds; the last edit is not counted. Give "
        "more rounds, more pictures or a wider tolerance"
    )
    return "\n".join([*lines, ended])
