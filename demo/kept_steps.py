"""What a stopped demo leaves: the outputs of each finished step, by what it was asked."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def digest_of(words: Iterable[str], files: Iterable[Path]) -> str:
    """One name for all that the steps' outcome depends on beside their graphs."""
    digest = hashlib.sha256("|".join(words).encode())
    for path in sorted(files):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class KeptSteps:
    """A record in the server's base folder, where the files that it names are."""

    def __init__(self, folder: Path, basis: str):
        """basis: `digest_of` what the steps are made with; the work of another one is deleted."""
        self.folder, self.path = folder, folder / "kept.json"
        record = self._read()
        self.from_before = record.get("basis") == basis  # of a demo that did not end
        if not self.from_before:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            record = {"basis": basis, "steps": {}}
            self._write(record)
        self._record = record

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.path.read_text("utf-8")))
        except (FileNotFoundError, ValueError):
            return {}

    def _write(self, record: Mapping[str, Any]) -> None:
        unfinished = self.path.with_suffix(".part")
        unfinished.write_text(json.dumps(record, indent=1), "utf-8")
        os.replace(unfinished, self.path)

    def __len__(self) -> int:
        return len(self._record["steps"])

    @staticmethod
    def _name(graph: Mapping[str, Any]) -> str:
        return hashlib.sha256(json.dumps(graph, sort_keys=True).encode()).hexdigest()[:16]

    def outputs(self, graph: Mapping[str, Any]) -> dict[str, Any] | None:
        """What this very graph gave before the stop."""
        found = self._record["steps"].get(self._name(graph))
        return None if found is None else dict(found)

    def keep(self, graph: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """A finished step."""
        self._record["steps"][self._name(graph)] = outputs
        self._write(self._record)

    def clear(self) -> None:
        """All is done: the next demo starts anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
