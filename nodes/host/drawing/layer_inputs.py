"""Hearing what layers are given while the host's sampler draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import comfy.samplers
import torch

from ....tverase_core.ports import Context, Progress
from .sampling import SamplerSettings, drawn_together, sample_rows

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

Hear = Callable[[str, int, torch.Tensor], None]
EARLY = 0.2  # of the timesteps, from pure noise on: what ConceptPrune's authors listen to
TOLERANCE = 1e-4  # samplers that compute in log space give a noise level back less exactly


class _Ear:
    """Forward pre-hooks of the network and of its layers; knows the step of the present call."""

    def __init__(self, ladder: torch.Tensor, hear: Hear):
        self._ladder, self._hear, self._step = ladder, hear, 0

    def note_step(self, _network: Any, _given: Any, named: dict[str, Any]) -> None:
        sigmas = named["transformer_options"]["sigmas"]
        self._step = step_of(self._ladder, float(sigmas.max()))

    def note_input(self, key: str, _layer: Any, given: tuple[torch.Tensor, ...]) -> None:
        self._hear(key, self._step, given[0])


def noise_ladder(model: ModelPatcher, settings: SamplerSettings) -> torch.Tensor:
    """The noise levels of the sampler's steps, float [steps + 1], falling, the last one 0."""
    options = {"sampler": settings.sampler, "scheduler": settings.scheduler}
    made = comfy.samplers.KSampler(model, settings.steps, model.load_device, **options)
    return made.sigmas.cpu()


def early_steps(model: ModelPatcher, ladder: torch.Tensor) -> int:
    """How many of the sampler's steps begin in the first fifth of the timesteps from noise, one
    at least: 10 of 50 at even timesteps, fewer where a scheduler leaves the noise sooner."""
    sampling = model.get_model_object("model_sampling")
    begun = sampling.timestep(ladder[:-1].to(sampling.sigmas.device)).cpu()
    return max(1, int((begun >= (1 - EARLY) * len(sampling.sigmas)).sum()))


def step_of(ladder: torch.Tensor, sigma: float) -> int:
    """The step, from 0, that a call of the network at this noise level belongs to.

    Step i covers the levels from ladder[i] down to above ladder[i + 1]: some samplers call the
    network between two levels, or for the next level too, which then counts as the next step.
    """
    reached = ladder[:-1] >= sigma * (1 - TOLERANCE)
    return max(0, int(reached.sum()) - 1)


@contextmanager
def listening(
    model: ModelPatcher, keys: Sequence[str], ladder: torch.Tensor, hear: Hear
) -> Iterator[None]:
    """While open, `hear(key, step, input)` is called with what each layer is given.

    keys: weights, whose layers are heard. input: float [b, tokens, d] as computed, for every row
    of the batch: rows with the prompt and rows without (the halves of CFG) are not told apart, as
    in the source of ConceptPrune; whether the host computes them together makes no difference.
    The step comes from the noise level that the host hands to the network with each call, so that
    it does not matter how many batches, or calls a step, there are.

    All MODELs of a checkpoint share these layers: on the way out, by any way, the hooks are gone.
    """
    ear, handles = _Ear(ladder, hear), []
    try:
        network = model.model.diffusion_model
        handles.append(network.register_forward_pre_hook(ear.note_step, with_kwargs=True))
        for key in keys:
            layer = model.model.get_submodule(key.rpartition(".")[0])
            handles.append(layer.register_forward_pre_hook(partial(ear.note_input, key)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def draw_first_steps(
    model: ModelPatcher,
    context: Context,
    empty: Context,
    seeds: Sequence[int],
    settings: SamplerSettings,
    steps: int,
    progress: Progress,
) -> None:
    """Take the first `steps` steps of what `sampling.sample_latents` draws, for who listens.

    progress: counts steps of all pictures.
    """
    start = 0
    for rows in drawn_together(context, len(seeds), settings.batch):
        tell = partial(_tell, progress, start, len(rows), len(seeds), steps)
        start += len(rows)
        sample_rows(model, context, empty, seeds, settings, rows, tell, last_step=steps)


def _tell(
    progress: Progress,
    start: int,
    count: int,
    pictures: int,
    steps: int,
    step: int,
    _x0: Any,
    _x: Any,
    _steps: int,
) -> None:
    """The host's callback after each step of a batch of `count` that begins at picture `start`."""
    words = f"pictures {start + 1} to {start + count} of {pictures}, step {step + 1} of {steps}"
    progress(start * steps + count * (step + 1), pictures * steps, words)
