"""One concept, one seed: erase it by every method, then count what is left and what was harmed.

Run by bench/claims.py in a process of its own; writes one JSON file. The automatic erasure runs
the pack's nodes with the settings of workflows/api/erase_concept_auto.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "bench")]

import torch  # noqa: E402 - after the path

from erasure.automatic import Job, baselines, inversions, learned  # noqa: E402
from erasure.concepts import CONCEPTS  # noqa: E402
from erasure.counts import ATTACKS, attacked, built_battery, counted, held_out_cosines  # noqa: E402
from erasure.kept import recipe  # noqa: E402
from erasure.strengths import Tuner, choice_facts, swept, tuning_triggers  # noqa: E402

EDIT_OF = {"plain_alpha": "tv", "alike_alpha": "tv"}  # searches on the same edit
SWEPT = ("cat", 2)  # the job that also measures how the strength depends on CFG


def measure(job: Job) -> dict[str, Any]:
    """Everything for this concept and seed."""
    from tverase_pack.nodes.host.drawing.studio import open_studio
    from tverase_pack.nodes.host.training.activations import gradient_bytes_for
    from tverase_pack.nodes.shared.drawing_settings import drawing_of

    pictures, vector = job.timed("learn", lambda: learned(job))
    diverse = job.timed("invert", lambda: inversions(job, pictures))
    alike = job.timed("invert without diversity", lambda: inversions(job, pictures, diversity=0.0))
    sets = {"diverse": split(diverse, job.seed), "alike": split(alike, job.seed)}
    others = job.timed("baselines", lambda: baselines(job, pictures))
    edits = {
        "tv": deltas_of(job, vector),
        **{name: deltas_of(job, other) for name, other in others.items()},
    }
    drawing = drawing_of(job.settings("TVEraseAutoStrength"))
    extra = gradient_bytes_for(job.model, pictures, ATTACKS * 4)
    result: dict[str, Any] = {"concept": job.concept.name, "seed": job.seed}
    with open_studio(
        job.model,
        job.clip,
        job.vae,
        drawing,
        purpose="bench claims",
        extra_memory_bytes=extra,
        autocast=True,
    ) as studio:
        tuner = Tuner(job, studio)
        triggers, rows = tuning_triggers(job, studio, sets)
        choices = tuner.choices(edits["tv"], triggers, rows)
        result["choices"] = {name: choice_facts(choice) for name, choice in choices.items()}
        print(json.dumps(result["choices"]), flush=True)
        methods = (
            {n: (EDIT_OF.get(n, n), c["strength"]) for n, c in result["choices"].items()}
            | {name: (name, 1.0) for name in others}
            | {"base": ("tv", 0.0)}
        )
        result["counts"] = counted(job, built_battery(job, studio, sets), edits, methods)
        for name in ("base", "tv", "esd", "uce"):
            edit, strength = methods[name]
            result["counts"][name]["attack"] = job.timed(
                f"attack {name}",
                lambda e=edit, s=strength: attacked(job, studio, pictures, edits[e], s),
            )
        result["held_out_cosines"] = held_out_cosines(job, studio, sets)
    if (job.concept.name, job.seed) == SWEPT:
        result["cfg"] = swept(job, drawing, edits["tv"], sets["diverse"][0])
        result["cfg"][str(drawing.cfg)] = result["choices"]["tv"]
    result["seconds"] = job.seconds
    return result


def deltas_of(job: Job, vector: Any, mask: Any = None) -> Any:
    """mask * delta by key, checked against the job's model."""
    from tverase_pack.nodes.host.model.edits import checked_deltas, on_device

    deltas = checked_deltas(job.model, vector, mask, allow_other_weights=False)
    return on_device(deltas, job.model.load_device)


def split(found: Any, seed: int) -> tuple[Any, Any]:
    """(tuning, held out), half each."""
    return found.split(0.5, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--concept", choices=sorted(CONCEPTS), required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started_as = recipe(options.concept)  # a graph that changes meanwhile is not what this measures
    job = Job(options.comfyui, CONCEPTS[options.concept], options.seed)
    with torch.inference_mode():
        result = {**measure(job), "recipe": started_as}
    options.output.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
