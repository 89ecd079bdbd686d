"""Drawing pictures with the host's own samplers, one seed per picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import comfy.sample
import comfy.samplers
import torch

from ....tverase_core.ports import Context

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

SAMPLERS = list(comfy.samplers.KSampler.SAMPLERS)
SCHEDULERS = list(comfy.samplers.KSampler.SCHEDULERS)
POOLED_WIDTH = 1280  # the part of SDXL's "y" that comes from the text


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """What a KSampler node holds, and the latent size."""

    steps: int
    cfg: float
    sampler: str
    scheduler: str
    height: int  # of the latent
    width: int
    batch: int = 16


def conditioning(context: Context) -> list[list[Any]]:
    """CONDITIONING with one row per picture of the batch."""
    extra = {}
    if "y" in context.extra:
        extra["pooled_output"] = context.extra["y"][:, :POOLED_WIDTH]
    return [[context.tokens, extra]]


def sample_latents(
    model: ModelPatcher,
    context: Context,
    empty: Context,
    seeds: Sequence[int],
    settings: SamplerSettings,
    progress: Callable[[int, int, str], None] | None = None,
) -> torch.Tensor:
    """Latents float32 [n, c, h, w] as the stock KSampler outputs them (not scaled).

    Row i is drawn from seeds[i] under row i of `context`; `empty` is the unconditional row.
    """
    drawn: list[torch.Tensor] = []
    for start in range(0, len(seeds), settings.batch):
        rows = torch.arange(start, min(start + settings.batch, len(seeds)))
        on_step = _step_reporter(progress, start, len(rows), len(seeds)) if progress else None
        drawn.append(sample_rows(model, context, empty, seeds, settings, rows, on_step).float())
        if progress:
            done = start + len(rows)
            progress(done, len(seeds), f"picture {done} of {len(seeds)}")
    return torch.cat(drawn)


def sample_rows(
    model: ModelPatcher,
    context: Context,
    empty: Context,
    seeds: Sequence[int],
    settings: SamplerSettings,
    rows: torch.Tensor,
    callback: Callable[..., None] | None,
    last_step: int | None = None,
) -> torch.Tensor:
    """One batch of `sample_latents`, as the host returns it.

    rows: int64, which of the seeds and contexts. callback: the host's, called after each step.
    last_step: after how many steps to end early; None for never.
    """
    channels = model.get_model_object("latent_format").latent_channels
    shape = (channels, settings.height, settings.width)
    noise = torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(seeds[i])) for i in rows]
    )
    return comfy.sample.sample(
        model,
        noise,
        settings.steps,
        settings.cfg,
        settings.sampler,
        settings.scheduler,
        conditioning(context.pick(rows)),
        conditioning(empty.pick(rows * 0)),
        torch.zeros_like(noise),
        last_step=last_step,
        disable_pbar=True,
        seed=seeds[int(rows[0])],
        callback=callback,
    )


def _step_reporter(
    progress: Callable[[int, int, str], None], start: int, count: int, total: int
) -> Callable[[int, Any, Any, int], None]:
    """The host's callback after each sampling step, for a batch that begins at picture `start`."""

    def report(step: int, _x0: Any, _x: Any, steps: int) -> None:
        words = f"pictures {start + 1} to {start + count} of {total}, step {step + 1} of {steps}"
        progress(start + count * step // steps, total, words)

    return report
