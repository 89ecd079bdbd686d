"""Drawing with an erased MODEL, in patch mode, beside the unedited one."""

from __future__ import annotations

import time
from typing import Any

import torch

from bench.size_parts.big_model import deltas

from .host import Host
from .sizes import Place

SHARE = 0.01  # of the weights' size


def drawing(place: Place) -> dict[str, Any]:
    """Seconds of the stock KSampler by turns, in each round: base, erased. The MODEL is loaded
    before, which patches the erased one, and has drawn one step.

    Every other round begins with the erased one.
    """
    host, size = Host(place), place.size
    import comfy.model_management
    from tverase_pack.nodes.host.model.weights import fingerprint, model_shapes
    from tverase_pack.tverase_core.vector.task_vector import TaskVector

    base, text = host.model(), [[host.given["empty"], {}]]
    vector = TaskVector(deltas(model_shapes(base), SHARE), fingerprint(base))
    node = host.pack.NODE_CLASS_MAPPINGS["TVEraseApplyNegatedTV"]()
    sampler = host.host.nodes.KSampler()
    found: dict[str, list[float]] = {"base": [], "erased": []}
    with torch.inference_mode():
        made = node.apply(base, vector, 1.0, "refuse")
        models = {"base": base, "erased": made["result"][0] if isinstance(made, dict) else made[0]}
        latent = {"samples": torch.zeros_like(host.given["latents"][:1])}
        drawn = 7.0, "euler", "normal", text, text, latent
        for round_ in range(2 * place.timed + 1):
            for name in list(models)[:: 1 if round_ % 2 == 0 else -1]:
                comfy.model_management.load_models_gpu([models[name]], force_full_load=True)
                sampler.sample(models[name], 0, 1, *drawn)
                start = time.perf_counter()
                sampler.sample(models[name], 0, size.draw_steps, *drawn)
                found[name].append(time.perf_counter() - start)
    return {name: seconds[1:] for name, seconds in found.items()}  # the first warms up
