"""Drawing pictures with the host's own samplers, one seed per picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import comfy.sample
import comfy.samplers
import torch

from ....tverase_core.checks import COUNT, NOT_NEGATIVE, check_settings
from ....tverase_core.ports import Context
from ..model.conditioning import conditioning, drawn_as_one
from ..network.latents import latent_shape, with_time, without_time

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

SAMPLERS = list(comfy.samplers.KSampler.SAMPLERS)
SCHEDULERS = list(comfy.samplers.KSampler.SCHEDULERS)


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """What a KSampler node holds, and the size of a picture in pixels. Raises ConfigError."""

    steps: int
    cfg: float
    sampler: str
    scheduler: str
    height: int
    width: int
    batch: int = 16

    def __post_init__(self) -> None:
        # The host's own limits let NaN through: it is neither below nor above them.
        sizes = dict.fromkeys(("steps", "height", "width", "batch"), COUNT)
        check_settings(self, {"cfg": NOT_NEGATIVE, **sizes}, title="Drawing")


def drawn_together(context: Context, count: int, batch: int) -> Iterator[torch.Tensor]:
    """The numbers of the first `count` rows in batches, int64: of `batch` rows at most, whose texts
    are of one size, or one text where the network reads no more."""
    for start in range(0, count, batch):
        rows = torch.arange(start, min(start + batch, count))
        for places, even in context.pick(rows).even():
            for same in drawn_as_one(even):
                yield rows[places][same]


def sample_latents(
    model: ModelPatcher,
    context: Context,
    empty: Context,
    seeds: Sequence[int],
    settings: SamplerSettings,
    progress: Callable[[int, int, str], None] | None = None,
) -> torch.Tensor:
    """Latents float32 [n, c, h, w] as the stock KSampler outputs them (not scaled), without an axis
    of time.

    Row i is drawn from seeds[i] under row i of `context`; `empty` is the unconditional row.
    """
    drawn, order, done = list[torch.Tensor](), list[torch.Tensor](), 0
    for rows in drawn_together(context, len(seeds), settings.batch):
        on_step = _step_reporter(progress, done, len(rows), len(seeds)) if progress else None
        drawn.append(sample_rows(model, context, empty, seeds, settings, rows, on_step).float())
        order.append(rows)
        done += len(rows)
        if progress:
            progress(done, len(seeds), f"picture {done} of {len(seeds)}")
    return torch.cat(drawn)[torch.cat(order).argsort()]


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
    """One batch of `sample_latents`.

    rows: int64, which of the seeds and contexts, of one size (`drawn_together`). callback: the
    host's, called after each step.
    last_step: after how many steps to end early; None for never.
    """
    shape = latent_shape(model, settings.height, settings.width)
    noise = torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(seeds[i])) for i in rows]
    )
    noise, ((_, context),) = with_time(model, noise), context.pick(rows).even()
    made = comfy.sample.sample(
        model,
        noise,
        settings.steps,
        settings.cfg,
        settings.sampler,
        settings.scheduler,
        conditioning(context),
        conditioning(empty.pick(rows * 0)),
        torch.zeros_like(noise),
        last_step=last_step,
        disable_pbar=True,
        seed=seeds[int(rows[0])],
        callback=callback,
    )
    return without_time(made)


def _step_reporter(
    progress: Callable[[int, int, str], None], start: int, count: int, total: int
) -> Callable[[int, Any, Any, int], None]:
    """The host's callback after each sampling step, for a batch that begins at picture `start`."""

    def report(step: int, _x0: Any, _x: Any, steps: int) -> None:
        words = f"pictures {start + 1} to {start + count} of {total}, step {step + 1} of {steps}"
        progress(start + count * step // steps, total, words)

    return report
