"""An unfinished fine-tune on disk, exact enough to go on to the same bits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..concept_set import ConceptSet
from ..errors import ConfigError, FormatError
from ..storage.reproducible import compact_json, read_safetensors, write_safetensors
from .config import FinetuneConfig

STATE_KIND = "finetune_state"
PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class FinetuneState:
    """Where a fine-tune is after `step` steps. What it showed follows from the seed.

    learned: float32 by name. moments: the optimizer's tensors by "<kind>/<name>". average: the
    moving average by name, empty without one. losses: float64 [step]. The tensors are the run's
    own and change with its next step.
    """

    step: int
    learned: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    losses: Tensor


def finetune_job(
    config: FinetuneConfig,
    pictures: ConceptSet,
    trained: Iterable[str],
    base: str,
    retained: ConceptSet | None = None,
) -> str:
    """Names a job, so that a state is only resumed by the work it belongs to.

    trained: keys of the weights that may move; base: identifies the model; retained: what must
    stay, if anything.
    """
    kept = retained.digest if retained else ""
    parts = [compact_json(config.recipe()), pictures.digest, *sorted(trained), base, kept]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def save_finetune_state(path: PathLike, state: FinetuneState, job: str) -> None:
    """Write unfinished work in one stroke; job from `finetune_job`."""
    groups = {"learned": state.learned, "moments": state.moments, "average": state.average}
    tensors = {f"{name}/{k}": value for name, part in groups.items() for k, value in part.items()}
    metadata = {"tverase.kind": STATE_KIND, "tverase.job": job, "tverase.step": str(state.step)}
    write_safetensors(path, {**tensors, "losses": state.losses}, metadata)


def load_finetune_state(path: PathLike, job: str) -> FinetuneState:
    """Read unfinished work. Raises ConfigError when it belongs to another job, FormatError."""
    tensors, metadata = read_safetensors(path, STATE_KIND)
    name = Path(path).name
    if metadata.get("tverase.job") != job:
        raise ConfigError(
            f"{name} belongs to other settings, pictures or weights. Delete it to start anew."
        )
    groups: dict[str, dict[str, Tensor]] = {"learned": {}, "moments": {}, "average": {}}
    try:
        losses = tensors.pop("losses")
        for key, value in tensors.items():
            group, _, rest = key.partition("/")
            groups[group][rest] = value
        return FinetuneState(step=int(metadata["tverase.step"]), losses=losses, **groups)
    except (KeyError, ValueError) as error:
        raise FormatError(f"{name} is not a whole fine-tune state: {error!r}.") from error


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, learned: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What the optimizer remembers of each learned tensor, by "<kind>/<name>".

    Raises ConfigError for an optimizer that remembers something else than tensors.
    """
    found = {
        f"{kind}/{name}": value
        for name, parameter in learned.items()
        for kind, value in optimizer.state[parameter].items()
    }
    odd = [key for key, value in found.items() if not isinstance(value, Tensor)]
    if odd:
        raise ConfigError(
            f"This optimizer keeps {odd[0].partition('/')[0]!r} in a form that has no place in a "
            "checkpoint. Use AdamW, or turn checkpoints off."
        )
    return found


@torch.no_grad()
def restore(
    state: FinetuneState, learned: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Put a state into fresh learned tensors and their optimizer. Raises ConfigError."""
    shapes = {name: value.shape for name, value in learned.items()}
    if shapes != {name: value.shape for name, value in state.learned.items()}:
        raise ConfigError("The unfinished fine-tune learned other weights. Delete it.")
    for name, parameter in learned.items():
        parameter.copy_(state.learned[name])
    for key, value in state.moments.items():
        kind, _, name = key.partition("/")
        # AdamW counts its steps on the CPU, whatever device the weights are on.
        device = learned[name].device if value.ndim else value.device
        # A copy, since the host reads files in inference mode.
        optimizer.state[learned[name]][kind] = value.to(device, copy=True)
