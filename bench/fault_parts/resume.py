"""A process that is killed while it learns, and another that goes on."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass, field

from .digest import digest_of
from .injecting import KINDS, Moments
from .injections import moments_of
from .world import World

STAGE = "fine-tune with checkpoints"
KEPT = ("fine-tune", "invert", "strength")  # stages whose finished work is kept


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


def rerun(world: World) -> list[str]:
    """Nodes that computed again what was done before, or gave something else."""
    from tverase_pack.nodes.host.training import identity

    stages, again = world.stages(), list[str]()
    plain, identity.KNOWN = identity.KNOWN, (*identity.KNOWN, "host_support")
    try:
        world.reuse = "clear"
        for name in KEPT:
            first = digest_of(stages[name]())
            world.reuse = "reuse"
            moments = Moments()
            with KINDS["NaN"][0](moments):  # every call of the network
                second = digest_of(stages[name]())
            if moments.count or first != second:
                again.append(name)
    finally:
        world.reuse, identity.KNOWN = "", plain
    return again


def _die(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
