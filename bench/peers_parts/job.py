"""One contender in a process of its own: `job.py NAME --material FOLDER ...`.

Prints its report as JSON, in the last line. Runs in the peers' environment where the contender is
one of diffusers, else in this project's.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# At the end: ahead, the pack's `nodes` would hide ComfyUI's.
sys.path += [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402 - after the path

from bench.peers_parts.sizes import SIZES, Place  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="module.function, such as by_diffusers.whole")
    parser.add_argument("--size", choices=SIZES, required=True)
    for number in ("timed", "threads"):
        parser.add_argument(f"--{number}", type=int, required=True)
    for folder in ("material", "work", "comfyui"):
        parser.add_argument(f"--{folder}", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    folders = given.material, given.work, given.comfyui
    place = Place(SIZES[given.size], given.timed, given.size == "tiny", *folders)
    module, _, function = given.name.partition(".")
    report = getattr(importlib.import_module(f"bench.peers_parts.{module}"), function)(place)
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
