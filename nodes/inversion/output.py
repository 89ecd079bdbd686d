"""What Diverse Inversion shows and says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image

from ...tverase_core.inversion.config import InversionConfig
from ...tverase_core.inversion.engine import own_seeds
from ...tverase_core.inversion.inversion_set import InversionSet
from ..pictures.cosine_matrix import cosine_matrix
from ..pictures.figure import to_tensor
from ..pictures.inversion_grid import inversion_grid
from ..shared.node_output import with_pictures
from .finished import FinishedInversion


def preview(count: int, drawn: Mapping[int, torch.Tensor]) -> Any:
    """What the embeddings have drawn so far."""
    return inversion_grid([str(k + 1) for k in range(count)], drawn, 8) if drawn else None


def original_numbers(found: InversionSet, config: InversionConfig, restarts: int) -> list[int]:
    """Which of the inversions that were started each kept one is: its seed tells."""
    started = {
        seed: number
        for generation in range(restarts + 1)
        for number, seed in enumerate(own_seeds(config, generation).tolist())
    }
    return [started[seed] for seed in found.seeds.tolist()]


def inversions_grid(found: InversionSet, drawn: Mapping[int, torch.Tensor]) -> Image.Image:
    """What each embedding draws; drawn: by place in the set."""
    rates = found.hit_rates
    labels = [
        f"{k + 1}: loss {float(found.losses[k]):.4f}"
        + ("" if rates is None else f", seen in {float(rates[k]):.0%}")
        for k in range(len(found))
    ]
    return inversion_grid(labels, drawn, 8)


def inversion_output(made: FinishedInversion, note: str) -> dict[str, Any]:
    """The node's outputs and pictures; note: for the node alone."""
    found, grid = made.found, made.grid
    pictures = {"inversions": grid}
    if len(found) > 1:
        pictures["cosines"] = cosine_matrix(found.cosine_matrix(), f"{found.concept}: likeness")
    text = inversions_text(found)
    shown = "\n".join(filter(None, (text, note)))
    return with_pictures(pictures, (found, to_tensor(grid), text), shown)


def inversions_text(found: InversionSet) -> str:
    """The set in a few plain lines."""
    nearest = found.max_cosine()
    lines = [
        f"{int(found.valid.sum())} embeddings that draw {found.concept!r}",
        f"denoising loss {float(found.losses.mean()):.4f} on average",
        *([] if nearest is None else [f"the most alike pair has cosine {nearest:.2f}"]),
        *found.notes,
    ]
    if len(found) == 1:
        lines.append(
            "one embedding alone cannot be split: Auto-Strength will not be able to verify"
        )
    return "\n".join(lines)
