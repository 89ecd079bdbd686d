"""Train the demo's second model: a small Z-Image (the host's NextDiT class) by flow matching.

The first model's text tower, encoder and decoder serve it as they are. Single-threaded workers
each compute the gradient of their own batch and average it.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from diffusion import Batches, TextTower, initialise
from torch import Tensor, nn

BETAS = (0.9, 0.98)
WARMUP, FALLING = 200, 0.4  # steps; the share of a cycle at whose end the rate falls
EMA_DECAY = 0.998
UNIFORM = 0.25  # the share of uniform times; the others are logit-normal
KEPT_EVERY = 100  # steps


def build_flow(config: dict) -> nn.Module:
    """The untrained transformer, float32."""
    import comfy.ldm.lumina.model as lumina
    import comfy.ops

    lumina.optimized_attention_masked = few_tokens_attention  # this process only trains
    operations = comfy.ops.disable_weight_init
    network = lumina.NextDiT(**config["network"], dtype=torch.float32, operations=operations)
    initialise(network)
    nn.init.zeros_(network.final_layer.linear.weight)
    return network


def few_tokens_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, *_: object, **__: object):
    """Attention written out, [b, heads, n, d] -> [b, n, heads * d]: in bfloat16 on a CPU its
    backward pass is faster than that of PyTorch's kernel when tokens are few."""
    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def sigmas(count: int, generator: torch.Generator) -> Tensor:
    """Noise shares in (0, 1), stratified, [count]."""
    spread = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    logit_normal = torch.special.ndtri(spread.clamp(1e-4, 1 - 1e-4)).sigmoid()
    order = torch.randperm(count, generator=generator)
    return torch.where(order < UNIFORM * count, spread, logit_normal)


class TextStates:
    """The frozen tower's states of a caption: its first `length` of 77."""

    def __init__(self, tower: TextTower, length: int):
        self.tower, self.length = tower, length
        self.known: dict[tuple[int, ...], Tensor] = {}

    @torch.no_grad()
    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens int64 [b, 77] -> [b, length, hidden]."""
        keys = [tuple(row) for row in tokens.tolist()]
        for key, row in zip(keys, tokens, strict=True):
            if key not in self.known:
                self.known[key] = self.tower(row[None])[0, : self.length].clone()
        return torch.stack([self.known[key] for key in keys])


@dataclass(frozen=True)
class Cycle:
    """Steps at a peak rate. often: how many times as often as others some objects are drawn."""

    steps: int
    peak: float
    often: dict[str, int]


def flow_rate(step: int, cycle: Cycle) -> float:
    """Warm-up, the peak, and a straight fall to a fiftieth; step: within the cycle."""
    left = (cycle.steps - step) / (FALLING * cycle.steps)
    return cycle.peak * min(1.0, (step + 1) / WARMUP, max(left, 0.02))


@dataclass(frozen=True)
class Course:
    """How a worker trains: cycles, pictures a step and worker, and where state is kept."""

    cycles: tuple[Cycle, ...]
    batch: int
    seed: int
    workers: int
    state_file: Path
    log_file: Path

    @property
    def steps(self) -> int:
        return sum(cycle.steps for cycle in self.cycles)

    def at(self, step: int) -> tuple[Cycle, int]:
        """The cycle of a step, and the step within it."""
        for cycle in self.cycles:
            if step < cycle.steps:
                return cycle, step
            step -= cycle.steps
        raise ValueError("step lies beyond the last cycle")


class Trainee:
    """The transformer with its optimizer and the average of its weights."""

    def __init__(self, network: nn.Module):
        self.network, self.step = network, 0
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, betas=BETAS, fused=True)
        self.average = {k: v.clone() for k, v in network.state_dict().items()}

    def load(self, file: Path) -> None:
        saved = torch.load(file, weights_only=True)
        self.network.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.average, self.step = saved["average"], saved["step"]

    def save(self, file: Path) -> None:
        state = {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
        }
        torch.save(state, file.with_suffix(".tmp"))
        file.with_suffix(".tmp").replace(file)

    def update(self, rate: float) -> None:
        """One step of the optimizer with the gradients' mean over the workers."""
        found = [p for p in self.parameters if p.grad is not None]  # norm_final serves no output
        flat = torch.cat([p.grad.flatten() for p in found])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        flat *= torch.clamp(1.0 / (flat.norm() + 1e-6), max=1.0)
        for parameter, grad in zip(found, flat.split([p.numel() for p in found]), strict=True):
            parameter.grad = grad.view_as(parameter)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.step += 1
        decay = min(EMA_DECAY, self.step / (10 + self.step))
        with torch.no_grad():
            state = self.network.state_dict()
            torch._foreach_lerp_(list(self.average.values()), list(state.values()), 1 - decay)


def train_flow(network: nn.Module, text: TextStates, batches: Batches, course: Course) -> dict:
    """Train as one of the workers, resuming from the state file; the averaged state dict."""
    trainee, generator = Trainee(network), torch.Generator()
    rank = dist.get_rank()
    if course.state_file.exists():
        trainee.load(course.state_file)
    dist.barrier()
    first, began, total = trainee.step, time.monotonic(), 0.0
    while trainee.step < course.steps:
        own = (course.seed * 1_000_003 + trainee.step) * course.workers + rank
        generator.manual_seed(own)  # so that a resumed run draws the same
        batches.rng.seed(own)
        cycle, within = course.at(trainee.step)
        batches.often = cycle.often
        latents, tokens, index, _ = batches.draw(course.batch)
        noise = torch.randn(latents.shape, generator=generator)
        sigma = sigmas(len(latents), generator)
        mixed = torch.lerp(latents, noise, sigma.view(-1, 1, 1, 1))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            predicted = network(mixed, sigma, text(tokens)[index], text.length)
        loss = nn.functional.mse_loss(predicted.float(), noise - latents)
        trainee.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        trainee.update(flow_rate(within, cycle))
        total += loss.item()
        if rank == 0 and trainee.step % 50 == 0:
            pace = round((time.monotonic() - began) / (trainee.step - first), 3)
            line = {"step": trainee.step, "loss": total / 50, "seconds_per_step": pace}
            course.log_file.open("a").write(json.dumps(line) + "\n")
            print(line, flush=True)
            total = 0.0
        if rank == 0 and (trainee.step % KEPT_EVERY == 0 or trainee.step == course.steps):
            trainee.save(course.state_file)
    return trainee.average


def join_workers(rank: int, workers: int, meeting: Path) -> None:
    """Make this process worker `rank` of `workers`; they meet in a file."""
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=workers)
