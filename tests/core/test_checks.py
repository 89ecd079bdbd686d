"""The rules that settings share: what each lets through, and one sentence for what they stop."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from tverase_core.checks import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    SEEDS,
    TEMPLATE,
    WORD,
    Rule,
    above,
    below,
    between,
    check_settings,
    one_of,
    optional,
)
from tverase_core.errors import ConfigError

CASES: list[tuple[Rule, list[Any], list[Any]]] = [
    (COUNT, [1, 9], [0, -1]),
    (POSITIVE, [1e-9, 3], [0, -1, math.inf, math.nan]),
    (NOT_NEGATIVE, [0, 3], [-1e-9, math.inf, math.nan]),
    (SEED, [0, 2**63 - 1], [-1, 2**63]),
    (SEEDS, [(1,), (1, 2)], [(), (1, 1)]),
    (TEMPLATE, ["a {}"], ["a", "{} and {}"]),
    (WORD, ["cat"], ["", "  "]),
    (between(0, 1), [0, 0.5, 1], [-0.1, 1.1, math.nan]),
    (above(0, 1), [0.5, 1], [0, 1.1, math.nan]),
    (below(0, 1), [0, 0.5], [1, -0.1, math.nan]),
    (one_of("x", "u"), ["x", "u"], ["y"]),
    (optional(COUNT), [None, 1], [0]),
]


@pytest.mark.parametrize(("rule", "good", "bad"), CASES, ids=[rule.expected for rule, *_ in CASES])
def test_a_rule_holds_at_its_ends_and_not_beyond(rule: Rule, good: Any, bad: Any) -> None:
    assert all(rule.holds(value) for value in good)
    assert not any(rule.holds(value) for value in bad)


def test_all_problems_come_in_one_sentence() -> None:
    settings = SimpleNamespace(steps=0, rate=2.0, variant="y", seed=1)
    rules = {"steps": COUNT, "rate": between(0, 1), "variant": one_of("x", "u"), "seed": SEED}
    with pytest.raises(ConfigError) as caught:
        check_settings(settings, rules, ["and more"], "Settings")
    assert str(caught.value) == (
        "Settings: steps: expected 1 or more, got 0; rate: expected 0 to 1, got 2.0; "
        "variant: expected 'x' or 'u', got 'y'; and more"
    )
    check_settings(settings, {"seed": SEED})
