"""One process's share of the arena: the parts of one method, concept and seed.

Run by bench/arena.py; writes a file for each part as soon as it is measured.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

import torch  # noqa: E402 - after the path

from bench.arena_parts.attack_loop import attacks  # noqa: E402
from bench.arena_parts.claims import CLAIM_PARTS  # noqa: E402
from bench.arena_parts.counting import measured  # noqa: E402
from bench.arena_parts.edited import of_text_encoder  # noqa: E402
from bench.arena_parts.methods import forget, vector_of  # noqa: E402
from bench.arena_parts.plan import TUNE, Job, first_tuning, tuning_of  # noqa: E402
from bench.arena_parts.settings import BASE, METHODS, TRIAL, Budget  # noqa: E402
from bench.arena_parts.store import KEPT, Result, Store  # noqa: E402
from bench.arena_parts.tuning import best, found_strength  # noqa: E402
from bench.arena_parts.world import World  # noqa: E402


def tuned(world: World, store: Store, job: Job) -> Result:
    """Every setting, or the one that the first seed chose, at its strength."""
    first = first_tuning(job.method, job.concept)
    grid = METHODS[job.method].grid
    numbers = list(range(len(grid))) if job == first else [chosen(store, first)["setting"]]
    tuning, _ = world.triggers()
    tried = []
    for number in numbers:
        vector, seconds = vector_of(world, job.method, number)
        facts = strength_of(world, vector, tuning, grid[number].get("strength_rounds", 0))
        tried.append({"setting": number, "seconds": seconds, **facts, **touched(world, vector)})
        print(f"{job.name} setting {number}: {tried[-1]}", flush=True)
    taken = tried[best(tried)]
    for number in set(numbers) - {taken["setting"]}:
        forget(world, job.method, number)
    return {**taken, "tried": tried}


def strength_of(world: World, vector: Any, tuning: Any, rounds: int) -> Result:
    """The strength that the tuning triggers ask for, and those that attacks find in the rounds."""
    facts, found = found_strength(world, vector, [tuning]), list[Any]()
    for number in range(rounds):
        found.append(attacks(world, vector, facts["strength"], number))
        facts = found_strength(world, vector, [tuning, *found])
    return facts


def chosen(store: Store, job: Job) -> Result:
    """A tuning's result. Raises KeyError where it is not there: the plan has a hole."""
    found = store.finished(job)
    if found is None:
        raise KeyError(f"{job.name} is not measured yet")
    return found


def touched(world: World, vector: Any) -> dict[str, int]:
    """How many weights the vector changes, of how many in what it edits."""
    from tverase_pack.nodes.host.model.weights import model_shapes
    from tverase_pack.nodes.host.text.edits import clip_shapes

    text = of_text_encoder(vector)
    shapes = clip_shapes(world.clip) if text else model_shapes(world.model)
    changed = sum(int(delta.count_nonzero()) for delta in vector.deltas.values())
    return {"touched": changed, "weights": sum(shape.numel() for shape in shapes.values())}


def done(world: World, store: Store, job: Job) -> Result:
    """One job's result."""
    if job.part == TUNE:
        return tuned(world, store, job)
    if job.method == BASE:
        return measured(world, job.part, None, 0.0)
    choice = chosen(store, tuning_of(job.method, job.concept, job.seed))
    vector, _ = vector_of(world, job.method, choice["setting"])
    if job.part in CLAIM_PARTS:
        return CLAIM_PARTS[job.part](world, vector, choice)
    result = measured(world, job.part, vector, choice["strength"])
    return {**result, "strength": choice["strength"], "setting": choice["setting"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--concept", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--parts", nargs="+", required=True)
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("--folder", type=Path, default=KEPT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    budget = TRIAL if options.trial else Budget()
    store = Store(options.folder, budget)
    with torch.inference_mode():
        began = time.process_time()
        name = "trial" if options.trial else "whole"
        world = World(options.comfyui, options.concept, options.seed, budget, name)
        for part in options.parts:
            job = Job(options.method, options.concept, options.seed, part)
            if store.finished(job) is None:
                result = done(world, store, job)
                spent = round(time.process_time() - began, 1)
                store.write(job, {**result, "processor_seconds": spent})
                print(f"{job.name}: {spent:.0f} s of processor", flush=True)
            began = time.process_time()
    return 0


if __name__ == "__main__":
    sys.exit(main())
