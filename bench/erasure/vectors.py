"""A job's task vector as deltas of its model, and its inversions in two halves."""

from __future__ import annotations

from typing import Any

from .automatic import Job


def deltas_of(job: Job, vector: Any, mask: Any = None) -> Any:
    """mask * delta by key, checked against the job's model."""
    from tverase_pack.nodes.host.model.edits import checked_deltas, on_device

    deltas = checked_deltas(job.model, vector, mask, allow_other_weights=False)
    return on_device(deltas, job.model.load_device)


def split(found: Any, seed: int) -> tuple[Any, Any]:
    """(tuning, held out), half each."""
    return found.split(0.5, seed)
