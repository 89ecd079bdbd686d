"""The demo's latent space: a fixed linear encoder found by principal component analysis.

Each 8x8 patch of a 64x64 picture becomes 24 numbers, so a picture becomes an 8x8 latent of 24
channels. Component k is divided by sqrt(std_k), not by std_k: full whitening would make the model
spend as much effort on the faintest detail as on the outline.
"""

from __future__ import annotations

import torch


def patches(pictures: torch.Tensor, patch: int) -> torch.Tensor:
    """pictures [n, H, W, 3] in -1..1 -> [n, H/patch, W/patch, 3*patch*patch], channel first."""
    n, height, width, _ = pictures.shape
    cut = pictures.view(n, height // patch, patch, width // patch, patch, 3)
    return cut.permute(0, 1, 3, 5, 2, 4).reshape(n, height // patch, width // patch, -1)


def fit_encoder(pictures: torch.Tensor, patch: int, channels: int) -> dict[str, torch.Tensor]:
    """The encoder as a stride-`patch` convolution: weight [channels, 3, patch, patch] and bias.

    Over `pictures` each latent channel has mean 0, and all channels together have variance 1.
    """
    rows = patches(pictures, patch).flatten(0, 2).double()
    mean = rows.mean(0)
    covariance = (rows - mean).T @ (rows - mean) / len(rows)
    variance, basis = torch.linalg.eigh(covariance)
    order = torch.arange(len(variance) - 1, len(variance) - 1 - channels, -1)
    basis, deviation = basis[:, order], variance[order].sqrt()
    basis = basis * basis.sum(0).sign().where(basis.sum(0) != 0, torch.ones(()))  # fix the signs
    weight = (basis / deviation.sqrt()).T
    weight = weight / deviation.mean().sqrt()  # channel variance was std_k: bring its mean to 1
    bias = -weight @ mean
    return {
        "weight": weight.view(channels, 3, patch, patch).float(),
        "bias": bias.float(),
    }


def encode(pictures: torch.Tensor, encoder: dict[str, torch.Tensor]) -> torch.Tensor:
    """pictures [n, H, W, 3] in -1..1 -> latents [n, channels, H/patch, W/patch]."""
    moved = pictures.movedim(-1, 1)
    return torch.nn.functional.conv2d(
        moved, encoder["weight"], encoder["bias"], stride=encoder["weight"].shape[-1]
    )
