"""Results of finished jobs, a small file each: hours can be split over sessions and machines."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.erasure.concepts import ROOT

from .looks import EVERY_CONCEPT
from .plan import CLAIMS, Job, first_tuning
from .settings import APART, BLOCKS, METHODS, NEAR, SHARED, Budget

KEPT = ROOT / "bench" / "results" / "arena"
MODEL = ROOT / "demo" / "model"
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Store:
    """Where results of one budget lie. A result counts only while all that it was made with is as
    it was: numbers, prompts and the demo model. Changes of the code do not change that."""

    folder: Path
    budget: Budget

    def file(self, job: Job) -> Path:
        return self.folder / f"{job.name}.json"

    def finished(self, job: Job) -> Result | None:
        """The job's result, if there is one that counts."""
        if not self.file(job).exists():
            return None
        result: Result = json.loads(self.file(job).read_text(encoding="utf-8"))
        return result if result["digest"] == self.digest(job) else None

    def all_finished(self, jobs: Iterable[Job]) -> dict[Job, Result]:
        found = {job: self.finished(job) for job in jobs}
        return {job: result for job, result in found.items() if result is not None}

    def write(self, job: Job, result: Mapping[str, Any]) -> None:
        """In one stroke, so that a stopped run leaves no half file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        whole = {**asdict(job), "digest": self.digest(job), **result}
        temporary = self.file(job).with_suffix(f".{os.getpid()}.part")
        temporary.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, self.file(job))

    def digest(self, job: Job) -> str:
        """Names what the job measures."""
        grid = METHODS[job.method].grid if job.method in METHODS else ()
        told = [
            asdict(self.budget),
            SHARED,
            list(map(dict, grid)),
            repr(EVERY_CONCEPT[job.concept]),
        ]
        claims = [APART, BLOCKS] if job.part in CLAIMS else []
        more = [
            claims,
            NEAR.get(job.concept, ()),
            first_tuning(job.method, job.concept).name,
            _model(),
        ]
        text = json.dumps([told, more], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _model() -> str:
    """Of the demo model's and its judge's files."""
    digest = hashlib.sha256()
    for name in ("demo_model", "demo_judge"):
        digest.update((MODEL / f"{name}.safetensors").read_bytes())
    return digest.hexdigest()
