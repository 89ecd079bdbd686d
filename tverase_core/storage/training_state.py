"""Unfinished training on disk, exact enough to go on to the same bits.

One format for whatever an optimizer learns: a fine-tune's deltas, an inversion's embeddings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import ConfigError, FormatError
from .reproducible import read_safetensors, write_safetensors

KIND = "training_state"
_GROUPS = ("learned", "moments", "average")
PathLike = str | os.PathLike[str]


class Optimizing(Protocol):
    """A torch optimizer, or what keeps the state of several."""

    @property
    def state(self) -> Mapping[Tensor, Any]:
        """What is remembered of each learned tensor: values by kind."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Where training is after `step` steps. What it was shown follows from the seed.

    learned: float32 by name. moments: the optimizer's tensors by "<kind>/<name>". average: the
    moving average by name, empty without one. losses: [step, ...]. The tensors are the run's own
    and change with its next step.
    """

    step: int
    learned: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    losses: Tensor

    @classmethod
    def of(
        cls,
        step: int,
        learned: Mapping[str, Tensor],
        optimizer: Optimizing,
        losses: Tensor,
        average: Mapping[str, Tensor] | None = None,
    ) -> TrainingState:
        """Raises ConfigError for an optimizer that remembers something else than tensors."""
        state = optimizer.state
        moments = {
            f"{kind}/{name}": value
            for name, parameter in learned.items()
            for kind, value in state[parameter].items()
        }
        odd = [key for key, value in moments.items() if not isinstance(value, Tensor)]
        if odd:
            raise ConfigError(
                f"This optimizer keeps {odd[0].partition('/')[0]!r} in a form that has no place in "
                "a checkpoint. Use AdamW, or turn checkpoints off."
            )
        values = {name: value.detach() for name, value in learned.items()}
        return cls(step, values, moments, average or {}, losses)

    @torch.no_grad()
    def restore(self, learned: Mapping[str, Tensor], optimizer: Optimizing) -> None:
        """Put it into fresh learned tensors and their optimizer. Raises ConfigError."""
        shapes = {name: value.shape for name, value in learned.items()}
        if shapes != {name: value.shape for name, value in self.learned.items()}:
            raise ConfigError("The unfinished work learned other weights. Delete it to start anew.")
        for name, parameter in learned.items():
            parameter.copy_(self.learned[name])
        state = optimizer.state
        for key, value in self.moments.items():
            kind, _, name = key.partition("/")
            # Adam counts its steps on the CPU, whatever device the weights are on.
            device = learned[name].device if value.ndim else value.device
            # A copy, since the host reads files in inference mode.
            state[learned[name]][kind] = value.to(device, copy=True)


def save_training_state(path: PathLike, state: TrainingState, job: str) -> None:
    """Write unfinished work in one stroke; job: a digest that names the work it belongs to."""
    tensors = {f"{g}/{k}": value for g in _GROUPS for k, value in getattr(state, g).items()}
    metadata = {"tverase.kind": KIND, "tverase.job": job, "tverase.step": str(state.step)}
    write_safetensors(path, {**tensors, "losses": state.losses}, metadata)


def load_training_state(path: PathLike, job: str) -> TrainingState:
    """Read unfinished work. Raises ConfigError when it belongs to another job, FormatError."""
    tensors, metadata = read_safetensors(path, KIND)
    name = Path(path).name
    if metadata.get("tverase.job") != job:
        raise ConfigError(
            f"{name} belongs to other settings, pictures or models. Delete it to start anew."
        )
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in _GROUPS}
    try:
        losses = tensors.pop("losses")
        for key, value in tensors.items():
            group, _, rest = key.partition("/")
            groups[group][rest] = value
        known = {key.partition("/")[2] for key in groups["moments"]}
        if not known or not known <= groups["learned"].keys():
            raise ValueError("moments of other weights")
        return TrainingState(step=int(metadata["tverase.step"]), losses=losses, **groups)
    except (KeyError, ValueError) as error:
        raise FormatError(
            f"{name} is no whole state of unfinished work: {error!r}. Delete it to start anew."
        ) from error
