"""The folder of finished work: bounded, shared by processes, and never a reason to fail."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tverase_core.errors import FormatVersionError
from tverase_core.storage.form import Form
from tverase_core.storage.new_file import replacing

Make = Callable[..., Any]


def _write(path: Path, made: bytes) -> None:
    with replacing(path) as file:
        file.write(made)


def _read(path: Path) -> bytes:
    made = path.read_bytes()
    if made == b"newer":
        raise FormatVersionError("of a newer version")
    if len(made) != 100:
        raise ValueError("damaged")
    return made


@pytest.fixture
def work(pack: Any, folder: Path) -> Make:
    """One job's place, by name."""
    from tverase_pack.nodes.host.training.finished import FinishedWork

    return lambda name="job": FinishedWork(Form(_write, _read), folder / f"{name}.safetensors")


@pytest.fixture
def bound(pack: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    from tverase_pack.nodes.host.training import finished

    return lambda most: monkeypatch.setattr(finished, "MOST_BYTES", most)


def keep(work: Make, *names: str) -> None:
    for name in names:
        made = work(name)
        made.keep(bytes(100))
        assert made.note == ""


def names(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir()}


def test_the_least_used_go_first(
    work: Make, folder: Path, bound: Callable[[int], None], pack: Any
) -> None:
    keep(work, "first", "second")
    bound(250)
    assert work("first").found() == bytes(100)  # used, so it is not the oldest any more
    keep(work, "third")
    assert names(folder) == {"first", "third"}
    (folder / ".0123.tmp").write_bytes(bytes(100))  # what a killed process left
    os.utime(folder / ".0123.tmp", (1, 1))
    keep(work, "fourth")
    assert names(folder) == {"third", "fourth"}
    bound(1)
    keep(work, "last")
    assert names(folder) == {"last"}  # the newest stays, however large it is


def test_a_clock_that_jumps_changes_no_order(
    work: Make, folder: Path, bound: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bound(250)
    for name, clock in (("first", 4e18), ("second", 1e18), ("third", 2e18)):
        monkeypatch.setattr(time, "time_ns", lambda clock=clock: int(clock))
        keep(work, name)
    assert names(folder) == {"second", "third"}
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert work("second").found()
    keep(work, "fourth")
    assert names(folder) == {"second", "fourth"}


@pytest.mark.parametrize("held", [b"cut", b"newer", b""])
def test_a_file_that_cannot_be_read_is_none(work: Make, folder: Path, held: bytes) -> None:
    made = work()
    assert made.found() is None
    assert made.note == ""
    folder.mkdir()
    (folder / "job.safetensors").write_bytes(held)
    assert made.found() is None
    assert made.note.startswith("A result that was kept for this work cannot be read")
    made.keep(bytes(100))
    assert work().found() == bytes(100)


def test_folders_and_files_of_others_do_no_harm(
    work: Make, folder: Path, bound: Callable[[int], None]
) -> None:
    (folder / "job.safetensors").mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    made = work()
    assert made.found() is None
    made.keep(bytes(100))
    assert made.note.endswith("kept for the next run: Is a directory.")
    bound(1)
    keep(work, "other")
    assert names(folder) == {"job", "notes", "other"}


@pytest.mark.parametrize(
    ("name", "number"), [("fsync", errno.ENOSPC), ("replace", errno.EACCES), ("utime", errno.EROFS)]
)
def test_a_full_or_read_only_folder_loses_no_result(
    work: Make, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    keep(work, "old")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, refuse)
    made = work()
    made.keep(bytes(100))
    if name != "utime":
        assert made.note.startswith("The result could not be kept for the next run: ")
        assert os.strerror(number) in made.note
        assert names(folder) == {"old"}  # nothing half-written
    assert work("old").found() == bytes(100)


def test_a_folder_that_cannot_be_made(work: Make, folder: Path) -> None:
    folder.write_text("a file in its place")
    made = work()
    assert made.found() is None
    made.keep(bytes(100))
    assert made.note == "The result could not be kept for the next run: File exists."


def test_a_folder_that_cannot_be_cleared(
    pack: Any, tiny_model: Any, folder: Path, work: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.host.training.finished import finished_work

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    keep(work, "old")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        made = finished_work(Form(_write, _read), "clear", tiny_model, "test", list)
    assert made.note == "output/finished_work could not be cleared: Permission denied."
    finished_work(Form(_write, _read), "clear", tiny_model, "test", list)
    assert not names(folder)


def test_two_processes_write_one_result(work: Make, folder: Path) -> None:
    """Each file is whole at any time, and one of theirs."""
    seen, over = [], threading.Event()

    def look() -> None:
        while not over.is_set():
            found = work().found()
            if found is not None:
                seen.append(found)

    def write(value: int) -> None:
        for _ in range(40):
            work().keep(bytes([value] * 100))

    watcher = threading.Thread(target=look)
    writers = [threading.Thread(target=write, args=(value,)) for value in (1, 2)]
    for thread in (watcher, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    watcher.join()
    assert seen
    assert {len(set(found)) for found in seen} == {1}
    assert names(folder) == {"job"}
