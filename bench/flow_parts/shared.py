"""What the tasks of one concept and seed share: the job, its files, its triggers, its edits."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.erasure.automatic import Job, inversions, learned_pictures
from bench.erasure.battery import Battery
from bench.erasure.mask_job import battery_of, erased_at
from bench.erasure.vectors import deltas_of, split
from bench.flow_parts.edits import EDITS
from bench.flow_parts.settings import Settings


@dataclass(frozen=True)
class Bench:
    """work: the folder of the vectors and triggers, which no repository should hold. results: JSON
    files of the finished tasks of this concept and seed, by task."""

    job: Job
    settings: Settings
    work: Path
    results: dict[str, Path]

    def result_of(self, task: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.results[task].read_text(encoding="utf-8"))
        return found

    def triggers(self) -> tuple[Any, Any]:
        """(tuning, held out) embeddings that make the base draw the concept; found once."""
        from tverase_pack.tverase_core.inversion.files import (
            load_inversion_set,
            save_inversion_set,
        )

        path = self.work / "triggers.inversions.safetensors"
        if not path.exists():
            found = inversions(self.job, learned_pictures(self.job))
            save_inversion_set(path, found, "tverase-demo-flow")
        return split(load_inversion_set(path), self.job.seed)

    @contextmanager
    def battery(self, model: Any = None, **drawn: Any) -> Iterator[Battery]:
        """Counts with the graph's drawing. model: another one; drawn: other settings of it."""
        from tverase_pack.nodes.host.drawing.studio import open_studio
        from tverase_pack.nodes.shared.drawing_settings import drawing_of

        job, found = self.job, self.triggers()
        drawing = replace(drawing_of(job.settings("TVEraseAutoStrength")), **drawn)
        parts = (model or job.model, job.clip, job.vae, drawing)
        with open_studio(*parts, purpose="bench flow", autocast=True) as studio:
            yield battery_of(job, studio, found, self.settings.draws)

    def least(self, battery: Battery, deltas: Any) -> dict[str, Any]:
        """The least strength that erases, and what it leaves; the same search for every edit."""
        return erased_at(battery, deltas, self.settings.most)

    def vector(self, edit: str) -> tuple[Any, dict[str, Any]]:
        """(task vector, its strength and counts): of the candidates the one nearest to strength
        1, which is the strength that a method of its own steps means."""
        from tverase_pack.tverase_core.files.task_vector_file import (
            load_task_vector,
            save_task_vector,
        )

        path = self.work / f"{edit}.tv.safetensors"
        if path.exists() and edit in self.results:
            return load_task_vector(path), self.result_of(edit)
        made = self.job.timed(f"learn {edit}", lambda: EDITS[edit](self.job, self.settings))
        with self.battery() as battery:
            tried = {n: self.least(battery, deltas_of(self.job, v)) for n, v in made.items()}
            base = battery.under(deltas_of(self.job, next(iter(made.values()))), 0.0, COUNTED)
        chosen = min(tried, key=lambda n: (not tried[n]["reached"], far_from_one(tried[n])))
        save_task_vector(path, made[chosen])
        strengths = {name: at["strength"] for name, at in tried.items()}
        told = {"chosen": chosen, "tried": strengths, "base": base, **tried[chosen]}
        return load_task_vector(path), told


COUNTED = ("held_out", "retained")


def far_from_one(found: dict[str, Any]) -> float:
    return abs(math.log(found["strength"]))
