"""Concept Fine-tune on this device: steps a second, peak memory beside the estimate."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from tverase_pack.nodes.host.model.denoiser import open_denoiser
from tverase_pack.nodes.host.training.plan import Saving
from tverase_pack.nodes.host.training.session import checked_config, tuning_session
from tverase_pack.tverase_core.errors import BaseMismatchError
from tverase_pack.tverase_core.finetuning.config import FinetuneConfig
from tverase_pack.tverase_core.finetuning.train import FinetuneStep, finetune

from .models import model_of, pictures_of
from .place import GIB, Place, SkippedError

ENOUGH_S, STEPS = 25.0, 20
RANK_16 = FinetuneConfig(steps=STEPS, rank=16, accumulation=16)


class _EnoughError(Exception):
    """Steps enough were timed."""


@dataclass
class _Clock:
    """When each step ended; what the session asks of a node's watch, without pictures."""

    ends: list[float] = field(default_factory=list)

    def __call__(self, step: FinetuneStep) -> None:
        self.ends.append(time.monotonic())
        if len(self.ends) > 1 and self.ends[-1] - self.ends[0] > ENOUGH_S:
            raise _EnoughError

    def picture(self) -> None:
        return None

    def sentence(self) -> str:
        return ""


def sd15(place: Place) -> dict[str, Any]:
    """All weights, 512 pixels, by the node's own settings."""
    return _figures(place, "sd15", model_of(place, "sd15"), FinetuneConfig(steps=STEPS))


def sdxl(place: Place) -> dict[str, Any]:
    """Rank 16 as the shipped workflow has it, 1024 pixels, one picture at a time."""
    return _figures(place, "sdxl", model_of(place, "sdxl"), RANK_16)


def flow(place: Place) -> dict[str, Any]:
    """The same on a flow model of 2 billion weights (SD3)."""
    model = model_of(place, "sd3_medium")
    try:
        with open_denoiser(model):
            pass
    except BaseMismatchError as refused:
        raise SkippedError(str(refused)) from refused
    return _figures(place, "sd3_medium", model, RANK_16)


def _figures(place: Place, family: str, model: Any, config: FinetuneConfig) -> dict[str, Any]:
    if place.tiny:
        config = replace(config, steps=3, batch_size=2, accumulation=1)
    pictures = pictures_of(place, family, config.batch_size)
    clock = _Clock()
    config = checked_config(model, pictures, config, None, None, 0)
    with tuning_session(
        model, pictures, config, clock, job="", saving=Saving(), checkpoint_every=0
    ) as session:
        with suppress(_EnoughError):
            finetune(session.denoiser, pictures, config, session.progress, clock)
        device = session.denoiser.device
    timed = len(clock.ends) - 1  # the first step makes the optimizer's moments and warms up
    rate = timed / (clock.ends[-1] - clock.ends[0])
    estimated, used = session.plan.on(device) / GIB, session.peak.extra / GIB
    # Of a tiny model on a CPU the process grows by whatever else it does.
    goal = {} if place.tiny else {"target": "<= 0.15"}
    return {
        "steps_per_s": {"value": rate, "n": timed},
        "pictures_per_s": {"value": rate * config.batch_size, "n": timed},
        "recomputed": {"value": float(session.plan.recompute)},
        "estimated": {"value": estimated, "unit": "GiB"},
        "peak": {"value": used, "unit": "GiB"},
        "estimate_error": {"value": abs(estimated - used) / max(used, 2**-20), **goal},
    }
