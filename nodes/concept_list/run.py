"""One command: erase every concept of a list, going on where an earlier run stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from ...tverase_core.console import escape_what_cannot_be_shown
from ...tverase_core.errors import TveraseError, listed
from ...tverase_core.files.task_vector_file import (
    load_task_vector,
    read_provenance,
    save_task_vector,
)
from ...tverase_core.vector.provenance import Recommendation
from ..host.app.file_kinds import TASK_VECTORS
from ..shared.saved_files import utc_now
from .base import Base, load_base
from .list_settings import Settings, settings_of
from .one_concept import ConceptRun, Say
from .plan import DEMO, ConceptList, read_list
from .shares import Processes, launched_processes
from .status import ConceptFiles, Status
from .summary import save_combined, save_table

Stages = Callable[[Base, Settings, str, Say], ConceptRun]


def command(path: str) -> int:
    """The exit code: 0 all erased, 1 refused or not finished; what went wrong is on stderr."""
    processes: Processes | None = None
    escape_what_cannot_be_shown()
    try:
        processes = launched_processes()
        return erase_list(Path(path), processes)
    except (TveraseError, OSError) as error:
        if processes is None or processes.index == 0:
            sys.stderr.write(f"error: {error}\n")
        return 1


def erase_list(path: Path, processes: Processes, stages: Stages = ConceptRun) -> int:
    """Erase what the file lists, this process's share of it; the main process sums up.

    stages: makes the object that does the work for one concept. Raises ConfigError and other
    errors of the project before weights are read where the file is at fault; OSError.
    """
    from ..host.app.paths import list_folder, output_relative

    plan = read_list(path)
    every = checked_settings(plan)
    folder = list_folder(TASK_VECTORS, plan.output)
    with torch.inference_mode():
        base = load_base(plan)
        work = [s for s in every if not _finished(s, base, ConceptFiles(folder, s.concept.stem))]
        processes.wait()  # all have looked before one of them finishes a concept
        mine = processes.share(work)
        if processes.index == 0:
            done = len(every) - len(work)
            _say(
                f"{len(every)} concepts, {done} of them finished earlier; output: "
                f"{output_relative(folder)}"
            )
        if processes.count == 1:
            _show_progress()
        for settings in mine:
            erase_one(base, plan, settings, ConceptFiles(folder, settings.concept.stem), stages)
        processes.wait()
        return sum_up(base, plan, every, folder) if processes.index == 0 else 0


def checked_settings(plan: ConceptList) -> list[Settings]:
    """Every concept's settings; whatever can be wrong without weights is found here."""
    from ..host.app.stock_loaders import require_file

    if plan.checkpoint != DEMO:
        require_file("checkpoints", plan.checkpoint, "checkpoint")
    if plan.judge not in ("", DEMO):
        require_file("clip_vision", plan.judge, "judge")
    return [settings_of(concept, plan) for concept in plan.concepts]


def erase_one(
    base: Base, plan: ConceptList, settings: Settings, files: ConceptFiles, stages: Stages
) -> None:
    """Vector and strength of one concept; a fault of its own is noted and others go on."""
    name, began = settings.concept.name, time.monotonic()
    status = replace(files.read(name), failed="")

    def say(stage: str) -> None:
        _say(f"{name}: {stage}")

    run = stages(base, settings, plan.judge, say)
    try:
        if files.holds_vector(status, settings.vector_digest, base.identity):
            vector = load_task_vector(files.vector)
        else:
            made = run.vector()
            vector = replace(made, provenance=replace(made.provenance, created=utc_now()))
            content = save_task_vector(files.vector, vector, dtype=plan.dtype)
            status = Status(name, settings.vector_digest, base.identity, content)
            files.write(status)
        strength, report = run.strength(vector)
        advice = Recommendation(strength)
        save_task_vector(files.vector, vector, dtype=plan.dtype, recommended=advice)
    except TveraseError as error:
        files.write(replace(status, failed=str(error)))
        say(f"failed: {error}")
        return
    seconds = round(time.monotonic() - began, 1)
    done = replace(status, strength_settings=settings.strength_digest, strength=strength)
    files.write(replace(done, report=report, seconds=seconds))
    say(f"done in {seconds:.0f} s, strength {strength:g}")


def sum_up(base: Base, plan: ConceptList, every: list[Settings], folder: Path) -> int:
    """Combine what is there if it is all there; the exit code."""
    from ..host.app.paths import output_relative
    from ..host.model.weights import layout_of

    files = [ConceptFiles(folder, s.concept.stem) for s in every]
    left = [
        s.concept.name for s, own in zip(every, files, strict=True) if not _finished(s, base, own)
    ]
    if left:
        _say(
            f"not finished: {listed(left)}. The same command goes on with these; nothing is "
            "combined before."
        )
        return 1
    paths = [own.vector for own in files]
    strengths = [o.read(s.concept.name).strength for s, o in zip(every, files, strict=True)]
    made = [save_combined(folder, paths, strengths, plan.dtype)]
    if len(paths) > 1:
        made.append(save_table(folder, paths, strengths, layout_of(base.model)))
    _say(f"written: {', '.join(output_relative(p) for p in made)}")
    return 0


def _finished(settings: Settings, base: Base, files: ConceptFiles) -> bool:
    """Vector and strength are of these settings, and the file says so."""
    status = files.read(settings.concept.name)
    if status.failed or status.strength_settings != settings.strength_digest:
        return False
    if not files.holds_vector(status, settings.vector_digest, base.identity):
        return False
    advice = read_provenance(files.vector)[1].recommended
    return advice is not None and advice.strength == status.strength


def _show_progress() -> None:
    """A line that overwrites itself, for people only."""
    from ..host.app.stock_loaders import watch_progress

    def show(done: int, total: int) -> None:
        text = f"  {done} of {total}" if done < total else ""
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()

    if sys.stderr.isatty():
        watch_progress(show)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
