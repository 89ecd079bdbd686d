"""Finished work on disk, found again by all that it depends on.

ComfyUI's cache drops results after another graph and when memory is short, and the next run of the
same graph would do hours of work again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from ....tverase_core.errors import TveraseError, listed
from ....tverase_core.storage.form import Form
from ..app.paths import finished_folder
from ..app.version import host_version
from .identity import Description

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

MOST_BYTES = 8 << 30  # of all kept results; the ones that were not used for longest go first
REVISION = 2  # goes up when the same inputs give another result
STEP_NS = 2_000_000_000  # as finely as the coarsest file system (FAT) tells times apart
FOUND = (
    "Found again in output/finished_work: this very work was done before, so nothing was computed. "
    "Set finished_work to 'make anew' to do it all the same."
)
T = TypeVar("T")


class FinishedWork(Generic[T]):
    """The place of one job's result. note: what the node should say of it, or ""."""

    def __init__(self, form: Form[T], path: Path | None = None, *, reuse: bool = True) -> None:
        """path: None for a result that is not kept. reuse: whether one that is there will do."""
        self._form, self._path, self._reuse, self.note = form, path, reuse, ""

    def found(self) -> T | None:
        """The kept result; None where there is none, or one that cannot be read."""
        if self._path is None or not self._reuse or not self._path.exists():
            return None
        try:
            result = self._form.read(self._path)
        except (TveraseError, OSError, LookupError, TypeError, ValueError):
            self.remark("A result that was kept for this work cannot be read, so it was done anew")
            return None
        _mark_used(self._path)
        self.remark(FOUND)
        return result

    def keep(self, result: T) -> None:
        """Write the result. A full disk is no reason to lose it."""
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._form.write(self._path, result)
        except (TveraseError, OSError, ValueError) as problem:
            why = problem.strerror if isinstance(problem, OSError) else str(problem)
            self.remark(f"The result could not be kept for the next run: {why}")
            return
        _mark_used(self._path)
        _drop_oldest(self._path)

    def remark(self, sentence: str) -> None:
        """Add to the note."""
        ended = sentence if sentence.endswith(".") else f"{sentence}."
        self.note = "\n".join(filter(None, (self.note, ended)))


def finished_work(
    form: Form[T],
    choice: str,
    model: ModelPatcher,
    purpose: str,
    parts: Callable[[], Iterable[Any]],
) -> FinishedWork[T]:
    """Where the result of this work of the node `purpose` lies, or would.

    choice: "reuse", "make anew" (a result that is there is replaced), "clear" (all that is kept is
    deleted first), or "" for keeping nothing. parts: all that the result depends on beside the
    MODEL, asked for where it matters.
    """
    if not choice:
        return FinishedWork(form)
    versions = (REVISION, torch.__version__, host_version(), model.load_device.type)
    told = Description(purpose, *versions, model, *parts())
    if told.unknown:
        work = FinishedWork(form)
        what = listed(list(dict.fromkeys(told.unknown)))
        work.remark(f"Not kept for the next run: whether {what} is the same then cannot be told")
    else:
        path = finished_folder() / f"{told.digest()}.safetensors"
        work = FinishedWork(form, path, reuse=choice == "reuse")
    if choice == "clear":
        try:
            for old in _kept():
                old.unlink(missing_ok=True)
        except OSError as problem:
            work.remark(f"output/finished_work could not be cleared: {problem.strerror}")
    return work


def _mark_used(used: Path) -> None:
    """Make it the last that was used, though the clock may have been set back."""
    latest = max((facts.st_mtime_ns for facts in _kept().values()), default=0)
    now = max(time.time_ns(), latest + STEP_NS)
    with suppress(OSError):  # a folder that is only read serves as well
        os.utime(used, ns=(now, now))


def _drop_oldest(newest: Path) -> None:
    """Delete the results that were not used for longest, until the rest fits; never the newest."""
    kept = _kept()
    total = sum(facts.st_size for facts in kept.values())
    for path in sorted(kept, key=lambda path: kept[path].st_mtime_ns):
        if total <= MOST_BYTES:
            return
        if path != newest:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            total -= kept[path].st_size


def _kept() -> dict[Path, os.stat_result]:
    """Results, and what a killed process left of one; another process may delete some meanwhile."""
    found = {}
    for path in finished_folder().glob("*"):
        with suppress(OSError):
            if path.suffix in (".safetensors", ".tmp") and path.is_file():
                found[path] = path.stat()
    return found
