"""A process that is killed while it learns, and another that goes on."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass, field
from typing import Any

from host_support.host_steps import TUNING

from .injecting import KINDS, Moments
from .injections import moments_of
from .stages import World, digest_of

STAGE = "fine-tune with checkpoints"


@dataclass
class Resumed:
    """killed: how many processes. wrong: those whose work did not end with the same bits."""

    killed: int = 0
    gone_on: int = 0
    wrong: list[str] = field(default_factory=list)


def kill_and_resume(world: World, kills: int, seed: int) -> Resumed:
    """Each killed at another operation of torch, by SIGKILL; needs a system that forks."""
    stage, told = world.stages()[STAGE], Resumed()
    expected = digest_of(stage())
    points = moments_of(stage, "exception", kills, f"{seed} kill")
    random.Random(seed).shuffle(points)
    unfinished = world.output / "task_vectors" / "unfinished"
    for point in points:
        child = os.fork()
        if child == 0:
            try:
                with KINDS["exception"][0](Moments(point, _die)):
                    stage()
            finally:
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        told.killed += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        told.gone_on += any(unfinished.glob("*.safetensors"))
        if digest_of(stage()) != expected:
            told.wrong.append(f"killed at operation {point}")
    return told


def rerun(world: World) -> int:
    """Predictions of the network in a fine-tune that was done before."""
    from tverase_pack.nodes.host.model.denoiser import HostDenoiser

    given = {"model": world.model, "concept_set": world.pictures, **TUNING}
    first = world.node("ConceptFinetune", **given, finished_work="clear")[2]
    plain, calls = HostDenoiser.predict, list[int]()

    def predict(self: Any, *words: Any) -> Any:
        calls.append(1)
        return plain(self, *words)

    HostDenoiser.predict = predict  # type: ignore[method-assign]
    try:
        second = world.node("ConceptFinetune", **given, finished_work="reuse")[2]
    finally:
        HostDenoiser.predict = plain  # type: ignore[method-assign]
    return len(calls) + (digest_of(first) != digest_of(second))


def _die(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
