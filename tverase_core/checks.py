"""What the settings of a method may be; all problems of one method are reported together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError


@dataclass(frozen=True, slots=True)
class Rule:
    """expected: in words, after "expected". holds: whether a value is so."""

    expected: str
    holds: Callable[[Any], bool]


def _one_place(template: str) -> bool:
    """What is found in a template has to hold in a prompt, where brackets are weights."""
    return template.count("{}") == 1 and not set("()") & set(template)


COUNT = Rule("1 or more", lambda value: value >= 1)
POSITIVE = Rule("a finite number > 0", lambda value: 0 < value < math.inf)
NOT_NEGATIVE = Rule("a finite number >= 0", lambda value: 0 <= value < math.inf)
SEED = Rule("0 to 2**63 - 1", lambda value: 0 <= value < 2**63)
TEMPLATE = Rule("exactly one {} and no brackets, which prompts read as weights", _one_place)
TEMPLATES = Rule(
    "one or more sentences with exactly one {} each and no brackets, which prompts read as weights",
    lambda value: len(value) > 0 and all(map(_one_place, value)),
)
WORD = Rule("a word", lambda value: bool(value.strip()))
SEEDS = Rule(
    "one or more distinct seeds", lambda value: len(value) > 0 and len(set(value)) == len(value)
)


def between(low: float, high: float) -> Rule:
    """Both ends are allowed."""
    return Rule(f"{low:g} to {high:g}", lambda value: low <= value <= high)


def above(low: float, high: float) -> Rule:
    """Only the upper end is allowed."""
    return Rule(f"more than {low:g} and at most {high:g}", lambda value: low < value <= high)


def below(low: float, high: float) -> Rule:
    """Only the lower end is allowed."""
    return Rule(f"at least {low:g} and less than {high:g}", lambda value: low <= value < high)


def one_of(*names: str) -> Rule:
    """names: two or more."""
    *others, last = map(repr, names)
    return Rule(f"{', '.join(others)} or {last}", lambda value: value in names)


def optional(rule: Rule) -> Rule:
    """The rule, or None."""
    return Rule(f"{rule.expected}, or None", lambda value: value is None or rule.holds(value))


def check_settings(
    settings: object, rules: Mapping[str, Rule], more: Iterable[str] = (), title: str = ""
) -> None:
    """Raises ConfigError with every problem: settings that break their rule, and those of `more`.

    rules: by the name of the setting. NaN breaks every rule about size.
    """
    values = {name: getattr(settings, name) for name in rules}
    problems = [
        f"{name}: expected {rule.expected}, got {values[name]!r}"
        for name, rule in rules.items()
        if not rule.holds(values[name])
    ]
    problems += more
    if problems:
        raise ConfigError(f"{title}: " * bool(title) + "; ".join(problems))
