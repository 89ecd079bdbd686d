"""Runs the tasks that have no result, in processes of one thread each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from bench.erasure.concepts import ROOT
from bench.flow_parts.kept import WORK, file_of, finished, needs
from bench.flow_parts.settings import Settings
from devtools.one_thread import run_in_one_thread

JOB = ROOT / "bench" / "flow_parts" / "job.py"
Key = tuple[str, int, str]  # concept, seed, task


def ordered(tasks: Sequence[str], concepts: Sequence[str], seeds: Iterable[int]) -> list[Key]:
    """Every task after what it needs; a concept ends before the next begins, so that a stopped run
    has whole concepts. What waits for nothing comes first, so that no worker is idle."""
    every = dict.fromkeys(earlier for task in tasks for earlier in with_needs(task))
    in_turn = sorted(every, key=lambda task: len(with_needs(task)))
    return [(concept, seed, t) for seed in seeds for concept in concepts for t in in_turn]


def with_needs(task: str) -> list[str]:
    """The task, and before it what it needs, in order."""
    return [*(t for earlier in needs(task) for t in with_needs(earlier)), task]


def run_missing(
    keys: Sequence[Key], comfyui: Path, folder: Path, settings: Settings, workers: int, smoke: bool
) -> None:
    """Run every task without a result of these settings, as early as what it needs is there."""
    running: dict[Key, Future[None]] = {}

    def one(key: Key) -> None:
        concept, seed, task = key
        for earlier in needs(task):
            running[concept, seed, earlier].result()
        output, digest = file_of(folder, *key), settings.digest(concept)
        if finished(output, digest) is not None:
            return
        work = WORK / digest / f"{concept}-{seed}"
        work.mkdir(parents=True, exist_ok=True)
        words = ["--task", task, "--concept", concept, "--seed", str(seed), *["--smoke"] * smoke]
        places = ["--comfyui", comfyui, "--work", work, "--output", output]
        run_in_one_thread(JOB, *words, *places)
        print(f"flow: {concept}, seed {seed}, {task} is done", flush=True)

    with ThreadPoolExecutor(workers) as pool:
        # One that is needed comes earlier in `keys`, so no worker waits for one that cannot start.
        for key in keys:
            running[key] = pool.submit(one, key)
    for future in running.values():
        future.result()
