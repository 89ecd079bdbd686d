"""The demo's command line; standard library only, so that `dev.py` can refuse before set-up."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from demo.world import OBJECTS

AUTOMATIC, STRAIGHT = "erase_concept_auto", "erase_concept"
FLOW_AUTOMATIC, FLOW_STRAIGHT = "erase_concept_flow_auto", "erase_concept_flow"


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """The options; a mistake ends the program with a sentence."""
    parser = argparse.ArgumentParser(
        prog="python dev.py demo",
        description="Erases a concept in a real ComfyUI and counts what is left of it.",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the straight graph: the strength is not measured, and few pictures are looked at",
    )
    parser.add_argument(
        "--flow",
        action="store_true",
        help="on the second model, a transformer trained by flow matching",
    )
    parser.add_argument(
        "--concept", default="cat", choices=sorted(OBJECTS), help="what to erase (cat)"
    )
    parser.add_argument("--workflow", choices=(AUTOMATIC, STRAIGHT), help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help="pictures of the concept (48, quick: 24)")
    parser.add_argument("--others", type=int, help="pictures of each other object (12, quick: 4)")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="(demo_output)")
    parser.add_argument("--comfyui", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--server-python", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    quick = options.quick
    straight, automatic = (FLOW_STRAIGHT, FLOW_AUTOMATIC) if options.flow else (STRAIGHT, AUTOMATIC)
    options.workflow = options.workflow or (straight if quick else automatic)
    options.count = options.count or (24 if quick else 48)
    options.kinds = 6 if quick else None  # how many other objects
    options.others = options.others or (4 if quick else 12)
    return options
