"""Train the demo's judge on renderings, and count how often it is right on held-out ones."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from autoencoder import Autoencoder
from judge_network import JudgeNetwork
from safetensors.torch import save_file
from torch import Tensor, nn
from world import OBJECTS, STYLES

BATCH = 64


@dataclass(frozen=True)
class Labelled:
    """pictures uint8 [n, 64, 64, 3]; objects and styles int64 [n], the last number is other."""

    pictures: Tensor
    objects: Tensor
    styles: Tensor


def labelled(drawings, others) -> Labelled:
    """Our objects, and drawings of other things in the same styles as "other"."""
    names, styles = list(OBJECTS), list(STYLES)
    pictures = torch.cat([torch.from_numpy(d.pictures) for d in (drawings, others)])
    objects = [names.index(o) for o in drawings.objects] + [len(names)] * len(others.objects)
    return Labelled(
        pictures,
        torch.tensor(objects),
        torch.tensor([styles.index(s) for s in (*drawings.styles, *others.styles)]),
    )


def broken(pictures: Tensor, rng: torch.Generator) -> Tensor:
    """Pictures that show nothing: noise, two drawings over each other, a scrambled one.

    pictures float [n, 3, 64, 64] in -1..1; the kinds take turns.
    """
    kinds = torch.arange(len(pictures)) % 4
    noise = torch.randn(pictures.shape, generator=rng)
    coarse = nn.functional.interpolate(noise[..., :8, :8], 64, mode="bilinear")
    mixed = 0.5 * (pictures + pictures.flip(0))
    cells = pictures.view(-1, 3, 4, 16, 4, 16)[:, :, torch.randperm(4, generator=rng)]
    scrambled = cells[:, :, :, :, torch.randperm(4, generator=rng)].reshape(pictures.shape)
    options = torch.stack([0.6 * noise, 0.8 * coarse, mixed, scrambled])
    return options[kinds, torch.arange(len(pictures))].clamp(-1, 1)


def augmented(pictures: Tensor, network: Autoencoder, rng: torch.Generator) -> Tensor:
    """uint8 [n, 64, 64, 3] -> float [n, 3, 64, 64]: moved a little, and half of them seen through
    the autoencoder with noise on the latent, as the sampler's pictures are."""
    values = pictures.movedim(-1, 1).float() / 127.5 - 1
    shifts = torch.randint(-2, 3, (2,), generator=rng).tolist()
    values = values.roll(shifts, (2, 3))
    half = len(values) // 2
    level = 0.4 * torch.rand(half, 1, 1, 1, generator=rng)
    with torch.no_grad():
        hidden = network.encode(values[:half])
        hidden = hidden + level * torch.randn(hidden.shape, generator=rng)
        values = torch.cat([network.decode(hidden), values[half:]])
    values = values + 0.05 * torch.randn(values.shape, generator=rng)
    return values.clamp(-1, 1)


def fit_judge(data: Labelled, network: Autoencoder, *, steps: int, seed: int) -> JudgeNetwork:
    """Class-balanced training; an eighth of each batch shows nothing."""
    torch.manual_seed(seed)
    judge = JudgeNetwork(len(OBJECTS), len(STYLES))
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    rng, picks = torch.Generator().manual_seed(seed), random.Random(seed)
    groups: dict[tuple[int, int], list[int]] = {}
    for i, key in enumerate(zip(data.objects.tolist(), data.styles.tolist(), strict=True)):
        groups.setdefault(key, []).append(i)
    keys = list(groups)
    weights = [6 if key[0] == len(OBJECTS) else 1 for key in keys]
    began, right, total = time.monotonic(), 0, 0
    for step in range(steps):
        rows = torch.tensor(
            [picks.choice(groups[k]) for k in picks.choices(keys, weights, k=BATCH)]
        )
        pictures = augmented(data.pictures[rows], network, rng)
        objects, styles = data.objects[rows].clone(), data.styles[rows].clone()
        eighth = BATCH // 8
        pictures[-eighth:] = broken(pictures[-eighth:], rng)
        objects[-eighth:], styles[-eighth:] = len(OBJECTS), len(STYLES)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            by_object, by_style = judge(pictures)
        loss = nn.functional.cross_entropy(by_object.float(), objects, label_smoothing=0.02)
        loss = loss + nn.functional.cross_entropy(by_style.float(), styles, label_smoothing=0.02)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        right, total = right + int((by_object.argmax(1) == objects).sum()), total + BATCH
        if (step + 1) % 100 == 0:
            pace = (time.monotonic() - began) / (step + 1)
            print(f"judge step {step + 1} right {right / total:.3f} {pace:.3f} s/step", flush=True)
            right = total = 0
    return judge.eval()


@torch.no_grad()
def hits(judge: JudgeNetwork, data: Labelled) -> tuple[int, int, int]:
    """(objects right, styles right, pictures) on renderings as they are."""
    objects_right = styles_right = 0
    for part in torch.arange(len(data.pictures)).split(256):
        by_object, by_style = judge(data.pictures[part].movedim(-1, 1).float() / 127.5 - 1)
        objects_right += int((by_object.argmax(1) == data.objects[part]).sum())
        styles_right += int((by_style.argmax(1) == data.styles[part]).sum())
    return objects_right, styles_right, len(data.pictures)


def save_judge(judge: JudgeNetwork, path: Path) -> None:
    """demo_judge.safetensors, half precision, with the names of its answers."""
    weights = {k: v.half().contiguous() for k, v in judge.state_dict().items()}
    metadata = {"objects": json.dumps(list(OBJECTS)), "styles": json.dumps(list(STYLES))}
    save_file(weights, path, metadata={**metadata, "tverase.kind": "demo_judge", "format": "pt"})
