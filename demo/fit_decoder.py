"""Train the demo's decoder: crisp pictures from latents, also from slightly wrong ones."""

from __future__ import annotations

import time

import torch
from autoencoder import Autoencoder, set_linear_parts
from torch import nn

NOISE = 0.25  # largest noise put on a latent: what the sampler makes is never exact


def fit_decoder(
    pictures: torch.Tensor,
    latents: torch.Tensor,
    encoder: dict[str, torch.Tensor],
    *,
    patch: int,
    steps: int,
    batch_size: int,
    seed: int,
) -> Autoencoder:
    """pictures uint8 [n, H, W, 3] and their latents [n, c, h, w] -> the trained autoencoder.

    L1 loss between the picture and its reconstruction; the linear parts stay fixed.
    """
    torch.manual_seed(seed)
    network = Autoencoder(latents.shape[1], patch)
    set_linear_parts(network, encoder)
    nn.init.zeros_(network.decoder[-1].weight)
    nn.init.zeros_(network.decoder[-1].bias)
    learned = list(network.decoder.parameters())
    optimizer = torch.optim.AdamW(learned, lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    began, total = time.monotonic(), 0.0
    for step in range(steps):
        rows = torch.randint(len(pictures), (batch_size,), generator=generator)
        target = pictures[rows].movedim(-1, 1).float() / 127.5 - 1
        level = torch.rand(batch_size, 1, 1, 1, generator=generator) * NOISE
        noised = latents[rows] + level * torch.randn(latents[rows].shape, generator=generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            drawn = network.decode(noised)
        loss = (drawn.float() - target).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
        if (step + 1) % 100 == 0:
            pace = (time.monotonic() - began) / (step + 1)
            print(f"decoder step {step + 1} L1 {total / 100:.4f} {pace:.3f} s/step", flush=True)
            total = 0.0
    return network.eval()
