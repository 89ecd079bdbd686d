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
    guessed: tuple[torch.Tensor, torch.Tensor],
    encoder: dict[str, torch.Tensor],
    *,
    patch: int,
    steps: int,
    batch_size: int,
    seed: int,
) -> Autoencoder:
    """The trained autoencoder; only its convolutional half of the decoder learns, by L1 loss.

    pictures: uint8 [shifts, n, H, W, 3]; latents: [shifts, n, c, h, w]; guessed: the diffusion
    model's guesses [m, c, h, w] and the (shift, drawing) of each [m, 2]. Half of each batch are
    latents with a little noise, half are guesses.
    """
    torch.manual_seed(seed)
    network = Autoencoder(latents.shape[2], patch)
    set_linear_parts(network, encoder)
    nn.init.zeros_(network.decoder[-1].weight)
    nn.init.zeros_(network.decoder[-1].bias)
    learned = list(network.decoder.parameters())
    optimizer = torch.optim.AdamW(learned, lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    began, total = time.monotonic(), 0.0
    for step in range(steps):
        half = batch_size // 2
        rows = torch.randint(pictures.shape[0], (half,), generator=generator)
        columns = torch.randint(pictures.shape[1], (half,), generator=generator)
        level = torch.rand(half, 1, 1, 1, generator=generator) * NOISE
        exact = latents[rows, columns]
        noised = exact + level * torch.randn(exact.shape, generator=generator)
        picked = torch.randint(len(guessed[0]), (batch_size - half,), generator=generator)
        noised = torch.cat([noised, guessed[0][picked]])
        rows = torch.cat([rows, guessed[1][picked, 0]])
        columns = torch.cat([columns, guessed[1][picked, 1]])
        target = pictures[rows, columns].movedim(-1, 1).float() / 127.5 - 1
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
