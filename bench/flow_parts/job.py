"""One task for one concept and seed, run by bench/flow.py in a process of its own.

Writes one JSON file in one stroke. What it needs of other tasks it finds in the work folder, or
makes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

import torch  # noqa: E402 - after the path

from bench.erasure.automatic import Job  # noqa: E402
from bench.erasure.concepts import CONCEPTS  # noqa: E402
from bench.flow_parts import attacking, carrying  # noqa: E402
from bench.flow_parts.edits import EDITS  # noqa: E402
from bench.flow_parts.kept import TASKS, results_of  # noqa: E402
from bench.flow_parts.settings import FULL, GRAPH, SMOKE  # noqa: E402
from bench.flow_parts.shared import Bench  # noqa: E402


def triggers(bench: Bench) -> dict[str, Any]:
    return {"triggers": [len(part) for part in bench.triggers()]}


def learned(bench: Bench, edit: str) -> dict[str, Any]:
    return bench.vector(edit)[1]


def work_of(task: str) -> Callable[[Bench], dict[str, Any]]:
    """The function that measures a task."""
    if task in EDITS:
        return partial(learned, edit=task)
    if task.startswith("attack-"):
        return partial(attacking.attacked, side=task.removeprefix("attack-"))
    others = {
        "triggers": triggers,
        "drawn": carrying.drawn_otherwise,
        "parts": carrying.parts,
        "few_step": carrying.few_step,
    }
    return others[task]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--concept", choices=sorted(CONCEPTS), required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = SMOKE if options.smoke else FULL
    began, digest = time.process_time(), settings.digest(options.concept)
    job = Job(options.comfyui, CONCEPTS[options.concept], options.seed, GRAPH)
    for kind, changed in settings.widgets.items():
        job.widgets[kind] |= {
            name: value.format(concept=options.concept) if isinstance(value, str) else value
            for name, value in changed.items()
        }
    # Where unfinished attacks and fine-tunes are kept.
    sys.modules["folder_paths"].set_output_directory(str(options.work))
    done = results_of(options.concept, options.seed, settings, options.output.parent)
    with torch.inference_mode():
        result = work_of(options.task)(Bench(job, settings, options.work, done))
    seconds = round(time.process_time() - began, 1)
    told = {"concept": options.concept, "seed": options.seed, "task": options.task, **result}
    temporary = options.output.with_suffix(".part")
    text = json.dumps({**told, "seconds": seconds, "digest": digest}, indent=1)
    temporary.write_text(text + "\n", encoding="utf-8")
    os.replace(temporary, options.output)


if __name__ == "__main__":
    main()
