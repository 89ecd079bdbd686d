"""Extraction from files of SD1.5's and SDXL's true size: memory and time."""

from __future__ import annotations

from pathlib import Path

from tverase_core.figures import Figure

TARGETS = {"extra_mb": "<= 400", "time_ratio": "<= 1.5"}


def extract_figures(comfyui: Path, work: Path) -> dict[str, Figure]:
    """Figures `extract_*`; `work` is an empty folder that is deleted afterwards."""
    reason = "extraction from files is not made yet"
    return {
        f"extract_{size}_{name}": Figure(None, target, reason=reason)
        for size in ("sd15", "sdxl")
        for name, target in TARGETS.items()
    }
