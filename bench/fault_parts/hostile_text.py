"""Odd values, and mutations of texts and of plain data."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

TEXTS = (
    "",
    " ",
    "\x00",
    "\ud800",
    "﻿",
    "‮x",
    "é" * 300,
    "x" * 20_000,
    "../../../etc/passwd",
    "/etc/passwd",
    "C:\\Windows\\x",
    "\\\\host\\share\\x",
    "~/x",
    "$HOME/x",
    "%USERPROFILE%",
    "..",
    ".",
    "con",
    "a\nb",
    "{}",
    "{0.__class__}",
    "%s%n",
    "NaN",
    "1e999",
    "(a+)+$",
    "(x|x)*y",
    ".*.*.*.*.*.*.*.*x",
    "[",
    "embedding:x",
    "<script>",
    "0x" + "0" * 64,
    "0" * 64,
    "A" * 8,
    "AAAA",
    "____",
    "9" * 5000,
    "/.*.*.*.*.*.*.*.*!/",
    "/(.|.)*!/",
    "/(.+)+!/",
    r"/(.)\1*(.*)*!/",
)
VALUES = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    10**400,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    -float("inf"),
    [],
    {},
    [[]],
    {"": None},
    [None],
    [1, "x", None],
    {"a": {"b": [1, {"c": None}]}},
)


def odd_value(source: random.Random) -> Any:
    """Any plain datum; now and then a deep or a long one."""
    kind = source.random()
    if kind < 0.04:
        deep: Any = 0
        for _ in range(source.choice((10, 200, 800))):
            deep = [deep]
        return deep
    if kind < 0.08:
        return list(range(3000))
    if kind < 0.3:
        return source.choice(TEXTS)
    return copy.deepcopy(source.choice(VALUES))


def odd_text(source: random.Random, text: str = "", words: Sequence[str] = ()) -> str:
    """Another text: one of TEXTS, or `text` with pieces taken out, doubled, or put in. words: of
    the language that the text is in."""
    if not text or source.random() < 0.15:
        return source.choice(TEXTS)
    for _ in range(source.choice((1, 1, 2, 5))):
        at = source.randrange(len(text) + 1)
        size = source.randrange(1, 12)
        kind = source.randrange(6)
        if kind == 0:
            text = text[:at] + text[at + size :]
        elif kind == 1:
            text = text[:at] + text[at : at + size] * source.choice((2, 2, 40)) + text[at:]
        elif kind == 2:
            text = (
                text[:at] + chr(source.choice((0, 9, 10, 34, 35, 47, 92, 123, 0x2028))) + text[at:]
            )
        elif kind == 3 and words:
            text = text[:at] + source.choice(words) + text[at:]
        elif kind == 4:
            text = text[:at] + source.choice(TEXTS) + text[at:]
        else:
            other = source.randrange(len(text) + 1)
            text = text[:at] + text[other : other + 30] + text[at:]
    return text


def with_odd_part(source: random.Random, value: Any) -> Any:
    """A copy of plain data in which one place is odd, gone or twice there."""
    if isinstance(value, dict) and value and source.random() < 0.85:
        made = dict(value)
        key = source.choice(list(made))
        kind = source.random()
        if kind < 0.15:
            del made[key]
        elif kind < 0.3:
            made[odd_text(source, key)] = made[key]
        else:
            made[key] = with_odd_part(source, made[key])
        return made
    if isinstance(value, list) and value and source.random() < 0.85:
        made_list = list(value)
        at = source.randrange(len(made_list))
        if source.random() < 0.2:
            made_list.insert(at, made_list[at])
        else:
            made_list[at] = with_odd_part(source, made_list[at])
        return made_list
    if isinstance(value, str) and source.random() < 0.5:
        return odd_text(source, value)
    return odd_value(source)
