"""Whether the layout knows every weight of the listed families."""

from __future__ import annotations

from pathlib import Path

from devtools.figures import Figure
from tverase_core.model.layout import detect_layout

from .big_model import names, shapes


def layout_figures(comfyui: Path, work: Path) -> dict[str, Figure]:
    """`keys_unlocated`: names without a block and a known kind, over all listed families."""
    lost = total = 0
    for name in names():
        keys = shapes(name)
        layout = detect_layout(keys)
        total += len(keys)
        lost += sum(layout.kind(key) == "other" for key in keys)
    return {"keys_unlocated": Figure(lost, "<= 0", n=total, unit="keys")}
