"""Checks in child processes: a crash or a hang costs one check, a broken device nothing else."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

JOB = Path(__file__).with_name("job.py")
MARK = "device check: "  # starts the lines of the child that are meant for its parent
START_S = 240.0  # for importing ComfyUI
ENDED = ""


class Checks:
    """What was found so far. environment: the child's, strings; reports: by check."""

    def __init__(self, words: Sequence[str | Path], until: float):
        self._words, self._until = [str(word) for word in words], until
        self.environment: dict[str, str | None] = {}
        self.reports: dict[str, dict[str, Any]] = {}

    def run(self, budgets: Mapping[str, float]) -> None:
        """Run these checks, seconds by name, in order; after a failure in a new process."""
        left = dict(budgets)
        while left and time.monotonic() < self._until:
            with closing(self._child(dict(left))) as reports:
                for name, report in reports:
                    self.reports[name] = report
                    del left[name]
                    if report["state"] == "failed":
                        break
        for name, budget_s in left.items():
            why = "no time was left for it"
            self.reports[name] = {"state": "failed", "why": why, "seconds": 0, "budget_s": budget_s}

    def _child(self, budgets: Mapping[str, float]) -> Generator[tuple[str, dict[str, Any]]]:
        """(check, report) as they come, from one process."""
        command = [sys.executable, str(JOB), *self._words, *budgets]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read, args=(process, lines), daemon=True).start()
        try:
            environment = self._next(lines, START_S)
            self.environment |= environment or {}
            for name, budget_s in budgets.items():
                began = time.monotonic()
                found = self._next(lines, budget_s) if environment else None
                if found is None:
                    code = process.poll()
                    limit = f"longer than {budget_s if environment else START_S:g} s"
                    found = {
                        "state": "failed",
                        "why": limit if code is None else f"ended with {code}",
                    }
                yield (
                    name,
                    {**found, "seconds": round(time.monotonic() - began, 1), "budget_s": budget_s},
                )
        finally:
            process.kill()
            process.wait()

    def _next(self, lines: queue.Queue[str], within_s: float) -> dict[str, Any] | None:
        """What the child says next; None when it ends or says nothing in that time."""
        until = min(self._until, time.monotonic() + within_s)
        while (left := until - time.monotonic()) > 0:
            try:
                line = lines.get(timeout=left)
            except queue.Empty:
                return None
            if line == ENDED:
                lines.put(ENDED)  # for whoever asks next
                return None
            if line.startswith(MARK):
                return dict(json.loads(line.removeprefix(MARK)))
        return None


def _read(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    process.wait()
    lines.put(ENDED)
