"""All concepts in one file, and what erasing one is predicted to take of the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from ...tverase_core.files.metadata import SUFFIX
from ...tverase_core.files.task_vector_file import load_task_vector, save_task_vector
from ...tverase_core.model.layout import ModelLayout
from ...tverase_core.storage.new_file import replacing
from ...tverase_core.vector.algebra import weighted_sum
from ...tverase_core.vector.interference import Interference, interference
from ...tverase_core.vector.provenance import Recommendation
from ...tverase_core.vector.task_vector import TaskVector
from .plan import COMBINED, Dtype

TABLE = "interference.md"


class VectorFiles(Sequence[TaskVector]):
    """Task vectors on disk, of which at most three are in memory."""

    def __init__(self, paths: Sequence[Path]):
        self._paths = paths
        self._load = lru_cache(3)(load_task_vector)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, place: int) -> TaskVector:  # type: ignore[override]
        return self._load(self._paths[place])


def save_combined(
    folder: Path, paths: Sequence[Path], strengths: Sequence[float], dtype: Dtype
) -> Path:
    """The sum of strength times vector: strength 1 of it erases every concept at its own."""
    parts = zip(VectorFiles(paths), strengths, strict=True)
    path = folder / f"{COMBINED}{SUFFIX}"
    total = weighted_sum(parts)
    save_task_vector(path, total, dtype=dtype, recommended=Recommendation(1.0))
    return path


def save_table(
    folder: Path, paths: Sequence[Path], strengths: Sequence[float], layout: ModelLayout
) -> Path:
    """The interference of two or more vectors, as a page to read."""
    found = interference(VectorFiles(paths), layout, strengths)
    path = folder / TABLE
    with replacing(path) as file:
        file.write(as_markdown(found, strengths).encode())
    return path


def as_markdown(found: Interference, strengths: Sequence[float]) -> str:
    """Strengths, cosines, predicted damage, and a sentence for each pair."""
    used = [f"{name} at {a:g}" for name, a in zip(found.names, strengths, strict=True)]
    sections = (
        "# Interference",
        f"Predicted from the weights alone, for {', '.join(used)}: what the network makes of them "
        "is not measured here.",
        "## Cosines",
        _table(found.names, found.cosines, "{:+.3f}"),
        "## Damage",
        "Row: erased at its strength. Column: how much of this concept goes with it, where 100 % "
        "is erasing that one at strength 1.",
        _table(found.names, found.damage, "{:+.1%}"),
        "## Pairs",
        "\n".join(f"- {line}" for line in found.to_text().splitlines()),
    )
    return "\n\n".join(sections) + "\n"


def _table(names: Sequence[str], values: Tensor, form: str) -> str:
    rows = [["", *names], ["---"] * (len(names) + 1)]
    for name, row in zip(names, values.tolist(), strict=True):
        rows.append([name, *(form.format(value) for value in row)])
    return "\n".join(_row(cells) for cells in rows)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
