"""A task vector of noise, and the node that subtracts it."""

from __future__ import annotations

from typing import Any

import torch

from tverase_core.vector.task_vector import TaskVector


def vector_for(model: Any, seed: int = 7) -> TaskVector:
    """Noise on every weight of the model."""
    from tverase_pack.nodes.host.model.weights import fingerprint, model_shapes

    source = torch.Generator().manual_seed(seed)
    deltas = {
        key: 0.02 * torch.randn(tuple(shape), generator=source)
        for key, shape in model_shapes(model).items()
    }
    return TaskVector(deltas, fingerprint(model))


def erase(pack: Any, model: Any, vector: TaskVector, strength: float, **more: Any) -> Any:
    from host_support.host_steps import node

    given = {"other_weights": "refuse", **more}
    return node(
        pack, "ApplyNegatedTV", model=model, task_vector=vector, strength=strength, **given
    )[0]
