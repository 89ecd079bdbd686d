"""A few-step distillate of the flow demo model, on which a vector of the base can be tried.

The teacher's guided paths from noise to picture are cut into as many pieces as the student has
steps; the student learns, at the noisy end of each piece, the straight line to its clean end, and
guidance with it, so it draws at CFG 1. Piecewise rectified flow (arXiv 2405.07510), but along whole
paths of the teacher, for there are no pictures of the world at hand when this runs.

Run by bench/flow.py in a process of its own; writes what the weights gain, float32 by weight key.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

import torch  # noqa: E402 - after the path
from safetensors.torch import load_file, save_file  # noqa: E402 - after the path
from torch import Tensor  # noqa: E402 - after the path
from torch.nn.functional import mse_loss  # noqa: E402 - after the path

from bench import demo_model  # noqa: E402 - after the path
from bench.flow_parts.settings import FULL, SMOKE, Settings  # noqa: E402 - after the path
from demo.world import OBJECTS, STYLES, caption  # noqa: E402 - after the path
from devtools.in_process import import_host, load_pack  # noqa: E402 - after the path
from tverase_core.erasers.teaching import with_null, zero_deltas  # noqa: E402 - after the path
from tverase_core.schedule import half_cosine  # noqa: E402 - after the path

SEED = 4_000_000


@dataclass(frozen=True, slots=True)
class Distilling:
    """paths: of the teacher, at `cfg` in `teacher_steps` steps of Euler's method. steps: of the
    student, a divisor of them. batch: points of paths in each of `train_steps`. rate: the first
    learning rate, which falls along half a cosine."""

    paths: int = 1600
    teacher_steps: int = 16
    steps: int = 4
    cfg: float = 5.0
    train_steps: int = 1000
    batch: int = 32
    rate: float = 4e-4

    def file(self, work: Path) -> Path:
        """Where the distillate of these settings and this demo model is kept."""
        digest = hashlib.sha256(repr(self).encode())
        digest.update((demo_model.MODEL / "demo_flow.safetensors").read_bytes())
        return work / f"distillate-{digest.hexdigest()[:16]}.safetensors"


FULL_SIZE = Distilling()
SMOKE_SIZE = Distilling(paths=4, train_steps=2, batch=4)


def distilling(settings: Settings) -> Distilling:
    """The size that goes with a bench's settings."""
    return SMOKE_SIZE if settings == SMOKE else FULL_SIZE


@dataclass(frozen=True, slots=True)
class Points:
    """x: where each piece of each path begins [pieces, n, c, h, w]; lines: the straight way to its
    end, per unit of noise; levels: of the pieces' beginnings [pieces]."""

    x: Tensor
    lines: Tensor
    levels: Tensor
    texts: Any


def captions(count: int) -> list[str]:
    """As in the training of the demo model."""
    drawn, objects = random.Random(SEED), list(OBJECTS)
    return [
        caption(drawn, name := drawn.choice(objects), drawn.choice(list(STYLES)), name)
        for _ in range(count)
    ]


def taught(denoiser: Any, encoder: Any, shape: tuple[int, ...], settings: Distilling) -> Points:
    """The teacher's paths."""
    texts, empty = encoder.encode(captions(settings.paths)), encoder.encode([""])
    levels = torch.cat([denoiser.schedule.ladder(settings.teacher_steps), torch.zeros(1)])
    every = settings.teacher_steps // settings.steps
    source = torch.Generator().manual_seed(SEED)
    noise = torch.randn((settings.paths, *shape), generator=source)
    parts = []
    for rows in torch.arange(settings.paths).split(settings.batch):
        x, ends = noise[rows], [noise[rows]]
        for step in range(settings.teacher_steps):
            made = guided(denoiser, x, levels[step], texts.pick(rows), empty, settings.cfg)
            x = denoiser.schedule.moved(x, made, levels[step], levels[step + 1])
            if (step + 1) % every == 0:
                ends.append(x)
        parts.append(torch.stack(ends))
        print(f"distil: path {int(rows[-1]) + 1} of {settings.paths}", flush=True)
    ends, own = torch.cat(parts, 1), levels[::every]
    lengths = (own[:-1] - own[1:]).view(-1, 1, 1, 1, 1)
    return Points(ends[:-1], (ends[:-1] - ends[1:]) / lengths, own[:-1], texts)


@torch.no_grad()
def guided(denoiser: Any, x: Tensor, level: Tensor, texts: Any, empty: Any, cfg: float) -> Tensor:
    """base(x, empty) + cfg * (base(x, text) - base(x, empty))."""
    named, bare = with_null(denoiser, (x, level.expand(len(x))), texts, empty)
    return bare + cfg * (named - bare)


def learned(denoiser: Any, points: Points, settings: Distilling) -> dict[str, Tensor]:
    """What the student's weights gain over the teacher's."""
    source = torch.Generator().manual_seed(SEED + 1)
    gained = zero_deltas(denoiser, denoiser.weight_shapes())
    optimizer = torch.optim.AdamW(gained.values(), settings.rate, weight_decay=0.0, fused=True)
    pieces, paths = points.x.shape[:2]
    with denoiser.attached(gained):
        for step in range(1, settings.train_steps + 1):
            piece = torch.randint(pieces, (settings.batch,), generator=source)
            path = torch.randint(paths, (settings.batch,), generator=source)
            made = denoiser.predict(
                points.x[piece, path], points.levels[piece], points.texts.pick(path)
            )
            loss = mse_loss(made, points.lines[piece, path])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(gained.values(), 1.0)
            optimizer.param_groups[0]["lr"] = settings.rate * half_cosine(
                step, settings.train_steps
            )
            optimizer.step()
            optimizer.zero_grad()
            if step % 20 == 0:
                print(f"distil: step {step}, loss {float(loss.detach()):.4f}", flush=True)
    return {key: gain.detach() for key, gain in gained.items()}


def distillate(work: Path, settings: Distilling) -> Any:
    """The student as a MODEL of its own, which shares no weight with another."""
    from tverase_pack.nodes.host.app.demo_model import load_demo_model

    model, _, _ = load_demo_model(demo_model.MODEL, "flow")
    gained = load_file(settings.file(work))
    weights = dict(model.model.named_parameters())
    with torch.no_grad():
        for key, gain in gained.items():
            weights[key].add_(gain)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    settings = distilling(SMOKE if options.smoke else FULL)
    import_host(options.comfyui)
    load_pack()
    from tverase_pack.nodes.host.app.demo_model import load_demo_model
    from tverase_pack.nodes.host.model.denoiser import open_denoiser
    from tverase_pack.nodes.host.network.latents import latent_shape
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    model, clip, _ = load_demo_model(demo_model.MODEL, "flow")
    encoder, shape = HostTextEncoder(model, clip), latent_shape(model, 64, 64)
    with open_denoiser(model, purpose="bench flow", autocast=True) as denoiser:
        gained = learned(denoiser, taught(denoiser, encoder, shape, settings), settings)
    place = settings.file(options.work)
    save_file(gained, place.with_suffix(".part"))
    place.with_suffix(".part").replace(place)


if __name__ == "__main__":
    main()
