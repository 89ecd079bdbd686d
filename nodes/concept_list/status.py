"""What is done for a concept, as a small JSON file beside its vector keeps it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...tverase_core.errors import TveraseError
from ...tverase_core.files.metadata import SUFFIX
from ...tverase_core.files.task_vector_file import read_task_vector_header
from ...tverase_core.storage.new_file import replacing

SCHEMA = "tverase/listed-concept/1"


@dataclass(frozen=True, slots=True)
class Status:
    """settings, strength_settings: digests of what vector and strength were made with.

    base: of the model. content: hash of the vector's file. failed: why it is not finished.
    """

    concept: str
    settings: str = ""
    base: str = ""
    content: str = ""
    strength_settings: str = ""
    strength: float = 0.0
    report: str = ""
    failed: str = ""
    seconds: float = 0.0


def _status(given: dict[str, Any]) -> Status:
    """Raises TypeError for a value of another kind than the field's."""
    held = {field.name: given[field.name] for field in fields(Status) if field.name in given}
    for field in fields(Status):
        expected = float if isinstance(field.default, float) else str
        if not isinstance(held.get(field.name, field.default), expected):
            raise TypeError(field.name)
    return Status(**held)


@dataclass(frozen=True, slots=True)
class ConceptFiles:
    """Where a concept's two files lie."""

    folder: Path
    stem: str

    @property
    def vector(self) -> Path:
        return self.folder / f"{self.stem}{SUFFIX}"

    @property
    def status(self) -> Path:
        return self.folder / f"{self.stem}.json"

    def read(self, concept: str) -> Status:
        """The status on disk; an empty one where there is none, or none that can be read."""
        try:
            given = json.loads(self.status.read_text("utf-8"))
            if given.pop("schema") == SCHEMA and given["concept"] == concept:
                return _status(given)
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        return Status(concept)

    def write(self, status: Status) -> None:
        """The file appears whole or not at all."""
        text = json.dumps({"schema": SCHEMA, **asdict(status)}, indent=1, ensure_ascii=False)
        with replacing(self.status) as file:
            file.write(f"{text}\n".encode())

    def holds_vector(self, status: Status, settings: str, base: str) -> bool:
        """Is there a vector of these settings and this base, as it was written?"""
        if (status.settings, status.base) != (settings, base):
            return False
        try:
            metadata = read_task_vector_header(self.vector).metadata
        except (OSError, TveraseError):
            return False
        return metadata.get("modelspec.hash_sha256", "").removeprefix("0x") == status.content
