"""Ratios of the contenders' reports, by part. The reports stand in the file beside them."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from devtools.figures import Figure

Reports = Mapping[str, Any]  # by the contender's name in job.py
WHOLE = ("by_tverase.whole", "by_diffusers.whole")
RANK16 = {
    "attention": ("by_tverase.attention", "by_diffusers.attention"),
    "matrices": ("by_tverase.matrices", "by_diffusers.matrices", "by_comfyui.matrices"),
}
LEAN = ("by_tverase.lean", "by_diffusers.lean")
DRAWING = tuple(f"drawing.drawing/{number}" for number in (1, 2, 3))


def whole_figures(reports: Reports) -> dict[str, Figure]:
    """ComfyUI's node has no way to train whole weights, so diffusers is the only peer."""
    ours, peer = WHOLE
    return {
        "step_time_ratio_whole": _times(reports, ours, [peer], "<= 0.8"),
        "step_memory_ratio_whole": _memory(reports, ours, [peer], "<= 0.6"),
        "step_time_ratio_whole_lean": _times(reports, LEAN[0], [peer]),
        "step_memory_ratio_whole_lean": _memory(reports, LEAN[0], [peer]),
        "step_time_ratio_whole_both_lean": _times(reports, *LEAN[:1], LEAN[1:]),
        "step_memory_ratio_whole_both_lean": _memory(reports, *LEAN[:1], LEAN[1:]),
    }


def rank16_figures(reports: Reports) -> dict[str, Figure]:
    """Each cover beside the peers that train the same weights; the worse cover is the figure."""
    times, memory = (
        {name: kind(reports, names[0], names[1:]) for name, names in RANK16.items()}
        for kind in (_times, _memory)
    )
    worst = max(f.value for f in times.values() if f.value is not None)
    return {
        "step_time_ratio_rank16": Figure(worst, "<= 0.8", unit="ratio"),
        **{f"step_time_ratio_rank16_{name}": figure for name, figure in times.items()},
        **{f"step_memory_ratio_rank16_{name}": figure for name, figure in memory.items()},
    }


def inversion_figures(reports: Reports, embeddings: int) -> dict[str, Figure]:
    """One batch of all embeddings by as many runs of the peer, each as long as the one measured."""
    ours, peer = (
        median(reports[name]["seconds"])
        for name in ("by_tverase.inversion", "by_diffusers.inversion")
    )
    return {
        "inversion_time_ratio_threads1": Figure(
            ours / (embeddings * peer), "<= 0.25", n=embeddings, unit="ratio"
        ),
    }


def drawing_figures(reports: Reports) -> dict[str, Figure]:
    return {"drawing_time_ratio": _by_process(reports, "<= 1.02")}


def default_drawing_figures(reports: Reports) -> dict[str, Figure]:
    """Without a target: see `running.KEEP`."""
    return {"drawing_time_ratio_default_allocator": _by_process(reports)}


def same_figures(reports: Reports) -> dict[str, Figure]:
    """Whether all compute the same: the largest difference by the largest value."""
    one, other = reports["by_tverase.prediction"], reports["by_diffusers.prediction"]
    gap = max(abs(a - b) for a, b in zip(one, other, strict=True))
    return {"same_network_error": Figure(gap / max(map(abs, other)), "<= 1e-3")}


def _times(reports: Reports, ours: str, peers: Any, target: str | None = None) -> Figure:
    """By the faster peer. The interval: our fastest and slowest step by the peer's median."""
    best = min(median(reports[name]["seconds"]) for name in peers)
    own = reports[ours]["seconds"]
    ends = (min(own) / best, max(own) / best)
    return Figure(median(own) / best, target, len(own), ends, "ratio")


def _memory(reports: Reports, ours: str, peers: Any, target: str | None = None) -> Figure:
    """By the peer that needs least."""
    peaks = [reports[name]["peak_bytes"] for name in (ours, *peers)]
    if None in peaks:
        return Figure(None, target, reason="this system does not tell a process's peak")
    return Figure(peaks[0] / min(peaks[1:]), target, unit="ratio")


def _by_process(reports: Reports, target: str | None = None) -> Figure:
    """A process's ratio is the median of its rounds' erased by base; the interval holds the
    processes' least and greatest."""
    ratios = [
        median([e / b for e, b in zip(found["erased"], found["base"], strict=True)])
        for found in reports.values()
    ]
    return Figure(median(ratios), target, len(ratios), (min(ratios), max(ratios)), "ratio")
