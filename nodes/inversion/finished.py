"""Finished inversions on disk: an inversion set's file, with the picture of its grid in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ...tverase_core.inversion.files import KIND, load_inversion_set, save_inversion_set
from ...tverase_core.inversion.inversion_set import InversionSet
from ...tverase_core.storage.form import Form
from ...tverase_core.storage.reproducible import read_safetensors

GRID = "grid"  # uint8 [H, W, 3]


@dataclass(frozen=True, slots=True)
class FinishedInversion:
    """found: as it was made. grid: what each embedding draws."""

    found: InversionSet
    grid: Image.Image


def _write(path: Path, made: FinishedInversion) -> None:
    grid = torch.from_numpy(np.array(made.grid.convert("RGB")))
    save_inversion_set(path, made.found, "finished-work", beside={GRID: grid})


def _read(path: Path) -> FinishedInversion:
    grid = read_safetensors(path, KIND)[0][GRID]
    return FinishedInversion(load_inversion_set(path), Image.fromarray(grid.numpy()))


FORM = Form(_write, _read)
