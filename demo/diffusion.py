"""Train the demo's text encoder and UNet together, in the host's own classes.

Epsilon prediction on the Stable Diffusion noise schedule, one optimizer, exponential moving
average of the weights. Runs on a CPU with bfloat16 matrix units in about an hour.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from render import Drawings, shifted
from torch import nn
from world import caption

SHIFTS = [(dx, dy) for dx in (-2, -1, 0, 1, 2) for dy in (-2, -1, 0, 1, 2)]
SHARED = 3  # pictures that share one caption: the text tower costs a third
TOKEN_STD = 1.0
EMA_DECAY = 0.998
WARMUP = 100


class TextTower(nn.Module):
    """The host's CLIP text transformer over the few token rows that captions use."""

    def __init__(self, config: dict, vocabulary: list[int], transformer: nn.Module):
        super().__init__()
        self.transformer = transformer
        self.rows = nn.Embedding(len(vocabulary), config["hidden_size"])
        # Far larger than CLIP's 0.02: a tower this shallow drowns small rows in its own output,
        # and the UNet then never finds the words (measured: no use of the text in 850 steps).
        nn.init.normal_(self.rows.weight, std=TOKEN_STD)
        nn.init.normal_(transformer.text_model.embeddings.position_embedding.weight, std=0.3)
        with torch.no_grad():
            for layer in transformer.text_model.encoder.layers:
                layer.self_attn.out_proj.weight.mul_(0.5)
                layer.mlp.fc2.weight.mul_(0.5)
        lookup = torch.zeros(config["vocab_size"], dtype=torch.long)
        lookup[torch.tensor(vocabulary)] = torch.arange(len(vocabulary))
        self.register_buffer("lookup", lookup, persistent=False)
        self.register_buffer("vocabulary", torch.tensor(vocabulary))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens int64 [b, 77] -> context float [b, 77, hidden]."""
        embeds = self.rows(self.lookup[tokens])
        return self.transformer(None, embeds=embeds, num_tokens=[1] * len(tokens))[0]


def initialise(module: nn.Module) -> None:
    """Fill the host's layers, which are born uninitialised, as PyTorch's own layers are filled."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_uniform_(part.weight, a=5**0.5)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)):
            for name, parameter in part.named_parameters(recurse=False):
                nn.init.constant_(parameter, float(name == "weight"))
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)


def build(config: dict, vocabulary: list[int]) -> tuple[nn.Module, TextTower]:
    """Untrained UNet and text tower."""
    import comfy.clip_model
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    def out_of_place(self, x, mask=None, optimized_attention=None):
        x = x + self.self_attn(self.layer_norm1(x), mask, optimized_attention)
        return x + self.mlp(self.layer_norm2(x))

    comfy.clip_model.CLIPLayer.forward = out_of_place  # this process only trains; see host notes
    operations = comfy.ops.disable_weight_init
    unet = UNetModel(**config["unet"], dtype=torch.float32, operations=operations)
    initialise(unet)
    for name, parameter in unet.named_parameters():  # the usual zero start of residual branches
        if name.endswith(("out_layers.3.weight", "proj_out.weight")) or name == "out.2.weight":
            nn.init.zeros_(parameter)
    transformer = comfy.clip_model.CLIPTextModel(config["text"], torch.float32, "cpu", operations)
    initialise(transformer)
    transformer.text_model.embeddings.token_embedding = None
    return unet, TextTower(config["text"], vocabulary, transformer)


def alphas_cumprod(steps: int = 1000) -> torch.Tensor:
    """Stable Diffusion's "scaled linear" schedule, float32 [steps]."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


class Batches:
    """Class-balanced batches of latents and tokenised captions, from one seeded generator."""

    def __init__(self, drawings: Drawings, encode, tokenize, seed: int):
        pictures = torch.from_numpy(
            np.stack([shifted(drawings.pictures, dx, dy) for dx, dy in SHIFTS])
        )
        self.latents = torch.stack([encode(p.float() / 127.5 - 1) for p in pictures])
        self.drawings, self.tokenize = drawings, tokenize
        self.rng = random.Random(seed)
        self.often: dict[str, int] = {}  # objects drawn so many times as often as the others
        self.groups: dict[tuple[str, str], list[int]] = {}
        for i, key in enumerate(zip(drawings.objects, drawings.styles, strict=True)):
            self.groups.setdefault(key, []).append(i)

    def draw(self, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """latents [size, c, h, w], unique token rows [u, 77], each item's row [size], and its
        (shift, drawing) [size, 2]."""
        keys = [key for key in self.groups for _ in range(self.often.get(key[0], 1))]
        items, rows, index = [], {}, []
        while len(items) < size:
            obj, style = key = self.rng.choice(keys)
            item = self.rng.choice(self.groups[key])
            name = self.drawings.names[item]
            text = caption(self.rng, obj, style, name)
            row = rows.setdefault(text, len(rows))
            for _ in range(min(SHARED, size - len(items))):
                items.append((self.rng.randrange(len(SHIFTS)), item))
                index.append(row)
                if name not in text:
                    item = self.rng.choice(self.groups[key])
        picks = torch.tensor(items)
        tokens = torch.tensor([self.tokenize(text) for text in rows])
        return self.latents[picks[:, 0], picks[:, 1]], tokens, torch.tensor(index), picks


def learning_rate(step: int, cycles: Sequence[tuple[int, float]]) -> float:
    """Warm-up, then a cosine fall to a fiftieth, in each cycle of (steps, peak)."""
    for steps, peak in cycles:
        if step < steps:
            cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
            return peak * min(1.0, (step + 1) / WARMUP) * max(cosine, 0.02)
        step -= steps
    raise ValueError("step lies beyond the last cycle")


def train(
    unet: nn.Module,
    text: TextTower,
    batches: Batches,
    *,
    cycles: Sequence[tuple[int, float]],
    batch_size: int,
    seed: int,
    state_file: Path,
    log_file: Path,
) -> dict[str, dict[str, torch.Tensor]]:
    """Train, resuming from `state_file` when it is there; returns the averaged state dicts."""
    both = nn.ModuleDict({"unet": unet, "text": text})
    parameters = list(both.parameters())
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.01, betas=(0.9, 0.99))
    average = {k: v.clone() for k, v in both.state_dict().items()}
    schedule, generator = alphas_cumprod(), torch.Generator().manual_seed(seed)
    first = 0
    if state_file.exists():
        saved = torch.load(state_file, weights_only=True)
        both.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average, first = saved["average"], saved["step"]
    steps = sum(length for length, _ in cycles)
    began, total = time.monotonic(), 0.0
    for step in range(first, steps):
        generator.manual_seed(seed * 1_000_003 + step)  # so that a resumed run draws the same
        batches.rng.seed(seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, cycles)
        latents, tokens, index, _ = batches.draw(batch_size)
        noise = torch.randn(latents.shape, generator=generator)
        t = torch.randint(0, len(schedule), (batch_size,), generator=generator)
        a = schedule[t].view(-1, 1, 1, 1)
        noised = a.sqrt() * latents + (1 - a).sqrt() * noise
        with torch.autocast("cpu", dtype=torch.bfloat16):
            context = text(tokens)[index]
            predicted = unet(noised, t.float(), context=context)
        loss = nn.functional.mse_loss(predicted.float(), noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        with torch.no_grad():
            for key, value in both.state_dict().items():
                if value.is_floating_point():
                    average[key].lerp_(value, 1 - decay)
        total += loss.item()
        if (step + 1) % 50 == 0:
            pace = (time.monotonic() - began) / (step + 1 - first)
            line = {"step": step + 1, "loss": total / 50, "seconds_per_step": round(pace, 3)}
            log_file.open("a").write(json.dumps(line) + "\n")
            print(line, flush=True)
            total = 0.0
        if (step + 1) % 200 == 0 or step + 1 == steps:
            state = {
                "model": both.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average,
                "step": step + 1,
            }
            torch.save(state, state_file.with_suffix(".tmp"))
            state_file.with_suffix(".tmp").replace(state_file)
    return {
        part: {k.removeprefix(part + "."): v for k, v in average.items() if k.startswith(part)}
        for part in ("unet", "text")
    }


@torch.no_grad()
def guesses(
    unet: nn.Module, text: TextTower, batches: Batches, *, count: int, batch_size: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's own guesses at clean latents from noisy ones, [count, c, h, w], and which
    (shift, drawing) each stands for, [count, 2]. They carry the model's typical faults."""
    generator = torch.Generator().manual_seed(seed)
    batches.rng.seed(seed)
    schedule, made, picked = alphas_cumprod(), [], []
    for _ in range(-(-count // batch_size)):
        latents, tokens, index, picks = batches.draw(batch_size)
        noise = torch.randn(latents.shape, generator=generator)
        t = torch.randint(20, 500, (batch_size,), generator=generator)
        a = schedule[t].view(-1, 1, 1, 1)
        noised = a.sqrt() * latents + (1 - a).sqrt() * noise
        with torch.autocast("cpu", dtype=torch.bfloat16):
            predicted = unet(noised, t.float(), context=text(tokens)[index]).float()
        made.append((noised - (1 - a).sqrt() * predicted) / a.sqrt())
        picked.append(picks)
    return torch.cat(made)[:count], torch.cat(picked)[:count]
