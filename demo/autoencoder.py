"""The demo's autoencoder: a linear encoder, and a small decoder that redraws the edges."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """x + two 3x3 convolutions."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Autoencoder(nn.Module):
    """Pictures [b, 3, H, W] in -1..1 <-> latents [b, channels, H/patch, W/patch].

    The encoder is one strided convolution, fitted by principal component analysis (latents.py).
    The decoder works at the latent's size and then doubles it three times; its last layer only
    corrects the linear reconstruction.
    """

    def __init__(self, channels: int, patch: int, widths: tuple[int, ...] = (128, 64, 32)):
        super().__init__()
        self.encoder = nn.Conv2d(3, channels, patch, stride=patch)
        self.linear = nn.ConvTranspose2d(channels, 3, patch, stride=patch)
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1)]
        for width, narrower in zip(widths, [*widths[1:], 24], strict=True):
            layers.append(Residual(width))
            layers += [nn.Conv2d(width, narrower * 4, 3, padding=1), nn.PixelShuffle(2)]
        layers += [nn.SiLU(), nn.Conv2d(24, 3, 3, padding=1)]
        self.decoder = nn.Sequential(*layers)

    def encode(self, pictures: Tensor) -> Tensor:
        """[b, 3, H, W] in -1..1 -> [b, channels, H/patch, W/patch]."""
        return self.encoder(pictures)

    def decode(self, latents: Tensor) -> Tensor:
        """[b, channels, h, w] -> [b, 3, h*patch, w*patch], about -1..1."""
        return self.linear(latents) + self.decoder(latents)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.decode(self.encode(pictures))


def set_linear_parts(network: Autoencoder, encoder: dict[str, Tensor]) -> None:
    """Put the fitted encoder in, and its pseudo-inverse as the linear half of the decoder."""
    weight, bias = encoder["weight"], encoder["bias"]
    flat = weight.flatten(1).double()
    inverse = torch.linalg.pinv(flat)  # [3*patch*patch, channels]
    with torch.no_grad():
        network.encoder.weight.copy_(weight)
        network.encoder.bias.copy_(bias)
        network.linear.weight.copy_(inverse.T.reshape(weight.shape).float())
        # x = inverse (z - bias): the constant differs by position in the patch, so only its mean
        # over the patch fits the layer's bias; the decoder learns the rest.
        offset = -(inverse @ bias.double()).view(weight.shape[1:])
        network.linear.bias.copy_(offset.mean((1, 2)).float())
