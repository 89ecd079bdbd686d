"""Steps that many host tests share: run a node, read weights, draw, materialise patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from host_support.tiny_host import CPU
from tverase_core.concept_set import ConceptSet, concept_set
from tverase_core.ports import Context

PREFIX = "diffusion_model."
# Widgets of the shortest fine-tune.
TUNING: dict[str, Any] = {
    "steps": 2,
    "learning_rate": 1e-3,
    "batch_size": 2,
    "accumulation": 1,
    "seed": 3,
    "flip": True,
    "ema": True,
    "weight_decay": 0.01,
    "gradient_clip": 1.0,
    "rank": 0,
}


def node(pack: Any, name: str, /, **inputs: Any) -> Any:
    """Run a node as the host does: in inference mode, inputs by name. Returns its results."""
    cls = pack.NODE_CLASS_MAPPINGS[f"TVErase{name}"]
    if getattr(cls, "INPUT_IS_LIST", False):
        inputs = {key: [value] for key, value in inputs.items()}
    with torch.inference_mode():
        made = getattr(cls(), cls.FUNCTION)(**inputs)
    return made["result"] if isinstance(made, dict) else made


def weights(model: Any) -> dict[str, Tensor]:
    """Copies of what the modules hold now, as stored."""
    held = model.model.diffusion_model.state_dict()
    return {PREFIX + name: value.clone() for name, value in held.items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Equal names and equal values, to the bit."""
    return first.keys() == second.keys() and all(
        first[k].dtype == second[k].dtype and torch.equal(first[k], second[k]) for k in first
    )


def materialised(model: Any) -> dict[str, Tensor]:
    """The weights that the host computes with: patches merged by the host, then taken off."""
    with torch.inference_mode():
        clone = model.clone()
        clone.patch_model(device_to=CPU)
        held = weights(clone)
        clone.unpatch_model(device_to=CPU)
    return held


def pictures(count: int = 4, seed: int = 5) -> ConceptSet:
    """A concept set of noise, under one empty caption."""
    source = torch.Generator().manual_seed(seed)
    latents = torch.randn((count, 4, 8, 8), generator=source)
    return concept_set("cat", latents, Context(torch.randn((1, 7, 32), generator=source)))


def output(model: Any, sigma: float = 1.5) -> Tensor:
    """What the model predicts (x0) when the host loads it whole and calls it."""
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([model], force_full_load=True)
        return applied(model, *inputs(), torch.full((2,), sigma))


def inputs() -> tuple[Tensor, Tensor]:
    """Noise [2, 4, 8, 8] and tokens [2, 7, 32], seeded."""
    source = torch.Generator().manual_seed(11)
    return torch.randn((2, 4, 8, 8), generator=source), torch.randn((2, 7, 32), generator=source)


def applied(model: Any, x: Tensor, tokens: Tensor, sigma: Tensor) -> Tensor:
    """`apply_model` of the loaded model: x0 from x at noise sigma."""
    with torch.inference_mode():
        return model.model.apply_model(x, sigma, c_crossattn=tokens).float()
