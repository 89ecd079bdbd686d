"""The demo's judgement of its pictures, as a grid, a report and figures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from devtools.figures import Figure
from tverase_core.judging.scoring import ScoreRow
from tverase_core.report.document import EraseReport

MODEL = Path(__file__).resolve().parent / "model"
SHOWN = 8  # pictures a row in the grid


def score_rows(
    role: str, concept: str, prompt: str, before: torch.Tensor, after: torch.Tensor
) -> Iterator[ScoreRow]:
    """before and after: the judge's scores [n]; row i is picture i of one KSampler batch."""
    for i, (base, erased) in enumerate(zip(before.tolist(), after.tolist(), strict=True)):
        yield ScoreRow(role, concept, prompt, i, base, erased)


def draw_grid(rows: Sequence[tuple[str, torch.Tensor]], path: Path) -> None:
    """One labelled row of pictures each, enlarged so that they can be looked at."""
    size, left, gap = 96, 150, 4
    canvas = Image.new(
        "RGB", (left + SHOWN * (size + gap), len(rows) * (size + gap) + gap), (250, 250, 250)
    )
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for r, (label, pictures) in enumerate(rows):
        top = gap + r * (size + gap)
        pen.text((8, top + size // 2 - 10), label, fill=(30, 30, 30), font=font)
        for c, picture in enumerate(pictures[:SHOWN]):
            pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
            tile = Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS)
            canvas.paste(tile, (left + c * (size + gap), top))
    canvas.save(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_report(
    folder: Path,
    concept: str,
    rows: Sequence[ScoreRow],
    base: Path,
    vector: Path,
    settings: Mapping[str, Any],
    environment: Mapping[str, Any],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """report.json and report.md; returns the document."""
    report = EraseReport(
        concept=concept,
        rows=rows,
        inputs={
            name: {"file": path.name, "sha256": _sha256(path)}
            for name, path in {
                "base": base,
                "judge": MODEL / "demo_judge.safetensors",
                "task_vector": vector,
            }.items()
        },
        settings=dict(settings),
        environment=dict(environment),
        pictures=[{"file": "grid.png", "sha256": _sha256(folder / "grid.png")}],
        warnings=list(warnings),
    )
    (folder / "report.json").write_text(report.to_json(), encoding="utf-8")
    (folder / "report.md").write_text(report.to_markdown(), encoding="utf-8")
    return report.document()


def demo_figures(summary: Mapping[str, Any], seconds: float | None) -> dict[str, Figure]:
    """The figures that the demo promises. seconds: None for a run that went on after a stop."""
    before, after, kept = (
        summary[name] for name in ("target_before", "target_after", "retained_ratio")
    )
    return {
        "target_hit_before": Figure(
            before["rate"], n=before["n"], interval=tuple(before["interval"]), unit="rate"
        ),
        "target_hit_after": Figure(
            after["rate"], "<= 0.10", n=after["n"], interval=tuple(after["interval"]), unit="rate"
        ),
        "retained_ratio": Figure(
            kept["value"], ">= 0.85", n=kept["n"], interval=tuple(kept["interval"]), unit="ratio"
        ),
        "demo_seconds": Figure(
            None if seconds is None else round(seconds, 1),
            "<= 600",
            unit="s",
            reason="the run was stopped and went on" if seconds is None else None,
        ),
    }
