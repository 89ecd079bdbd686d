"""One seed: train a base, make every edit, tune, attack, count. Writes one JSON file.

Run by bench/digits.py in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

import torch  # noqa: E402 - after the path

from bench.digit_parts.base import build_world  # noqa: E402
from bench.digit_parts.counting import Counter  # noqa: E402
from bench.digit_parts.digits import Digits, read_digits  # noqa: E402
from bench.digit_parts.drawing import DigitJudge, load_judge  # noqa: E402
from bench.digit_parts.methods import METHODS, OWN_STRENGTHS  # noqa: E402
from bench.digit_parts.settings import TRAINED_SHARE, Settings  # noqa: E402
from tverase_core.errors import JudgeError  # noqa: E402


def one_seed(settings: Settings, seed: int, digits: Digits, judge: DigitJudge) -> dict[str, Any]:
    """Everything that is counted of a seed, ready for JSON.

    Raises JudgeError when the judge does not see the base's own 0: then no count means anything.
    """
    began = time.process_time()
    world = build_world(settings, seed, digits)
    counter = Counter(world, judge)
    base = counter.counted()
    if base["plain"] < settings.kept_draws / 2:
        raise JudgeError(
            f"seed {seed}: the judge sees a 0 in {base['plain']} of {settings.kept_draws} pictures "
            "that the unedited model drew of it, so it could not tell an erasure from a failure"
        )
    triggers = counter.triggers()
    methods: dict[str, Any] = {}
    for name, make in METHODS.items():
        deltas = make(world)
        choice = counter.tuned(deltas, triggers)
        strengths = dict.fromkeys([*OWN_STRENGTHS[name], choice["strength"]])
        counts = {f"{s:g}": counter.under(deltas, s) for s in strengths}
        norm = sum(float(delta.square().sum()) for delta in deltas.values()) ** 0.5
        methods[name] = {"norm": round(norm, 4), "tuned": choice, "counts": counts}
    return {
        "seed": seed,
        "settings": asdict(settings),
        "digest": settings.digest(),
        "triggers": len(triggers.tokens),
        "base": base,
        "methods": methods,
        "seconds": round(time.process_time() - began, 1),
    }


def write(path: Path, result: Mapping[str, Any]) -> None:
    """In one stroke, so that a stopped run leaves no half file."""
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digits", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, _ = read_digits(options.digits).split(TRAINED_SHARE)
    judge, right, tested = load_judge(options.judge)
    result = one_seed(Settings(), options.seed, train, judge)
    write(options.output, {**result, "judge": {"accuracy": right, "tested": tested}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
