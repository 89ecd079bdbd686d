"""Many MODELs on one set of weights, drawn in any order: each must draw as if it were alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import comfy.model_management
import comfy.sd
import torch
from torch import Tensor

from host_support import host_steps, tiny_host
from tverase_core.vector.provenance import Provenance
from tverase_core.vector.task_vector import TaskVector

from .digest import digest_of

MODULES = ("input_blocks.1.0.in_layers.2", "middle_block.1.proj_in", "out.2")
# An edit on the way to a MODEL: which vector or LoRA, how strong, how.
Edit = tuple[str, float, str]
EDITS: tuple[Edit, ...] = (
    ("cat", 0.5, "patch"),
    ("cat", 1.25, "patch"),
    ("cat", 0.5, "runtime_exact"),
    ("dog", 1.0, "patch"),
    ("dog", 0.75, "runtime_exact"),
    ("LoRA", 0.8, ""),
    ("LoRA", -0.4, ""),
    ("clone", 0.0, ""),
)
Chain = tuple[Edit, ...]


@dataclass
class Orders:
    """tried: graphs; drawn: MODELs drawn in them; wrong: what disturbed what, in words."""

    tried: int = 0
    drawn: int = 0
    wrong: list[str] = field(default_factory=list)


def run(pack: Any, graphs: int, seed: int) -> Orders:
    """Random graphs on one loaded model that stays from the first to the last."""
    made, shared = Orders(), tiny_host.build_model()
    untouched = digest_of(host_steps.weights(shared))
    for number in range(graphs):
        source = random.Random(f"{seed} {number}")
        nodes: list[tuple[Chain, Any]] = [((), shared)]
        for _ in range(source.randrange(3, 6)):
            chain, model = source.choice([n for n in nodes if len(n[0]) < 3])
            edit = source.choice(EDITS)
            nodes.append(((*chain, edit), edited(pack, model, edit)))
        for place in source.choices(range(len(nodes)), k=source.randrange(5, 9)):
            chain, model = nodes[place]
            partly = source.random() < 0.25
            made.drawn += 1
            if digest_of(drawn(model, partly)) != alone(pack, chain, partly):
                made.wrong.append(f"graph {number}: {chain}, {'partly loaded' * partly}")
        made.tried += 1
        if digest_of(host_steps.weights(_bare(shared))) != untouched:
            made.wrong.append(f"graph {number}: base weights")
    return made


def edited(pack: Any, model: Any, edit: Edit) -> Any:
    """The MODEL with one more edit, as the nodes make it."""
    name, strength, how = edit
    if name == "clone":
        return model.clone()
    if name == "LoRA":
        with torch.inference_mode():
            return comfy.sd.load_lora_for_models(model, None, lora(), strength, 0)[0]
    return host_steps.node(
        pack,
        "ApplyNegatedTV",
        model=model,
        task_vector=vector(model, name),
        strength=strength,
        other_weights="refuse",
        precision=how,
    )[0]


def vector(model: Any, name: str) -> TaskVector:
    """Deltas of another seed for each name, where both have some and where only one has."""
    from tverase_pack.nodes.host.model.weights import fingerprint

    source = torch.Generator().manual_seed(len(name) + ord(name[0]))
    held = host_steps.PREFIX
    chosen = MODULES[:2] if name == "cat" else MODULES[1:]
    shapes = {f"{held}{m}.weight": model.model.get_submodule(held + m).weight.shape for m in chosen}
    deltas = {key: 0.1 * torch.randn(shape, generator=source) for key, shape in shapes.items()}
    return TaskVector(deltas, fingerprint(model), Provenance(concepts=(name,)))


@lru_cache(1)
def lora() -> dict[str, Tensor]:
    """A stock LoRA of two modules."""
    source = torch.Generator().manual_seed(9)
    model, made = tiny_host.build_model(), {}
    for module in MODULES[:2]:
        shape = model.model.get_submodule(host_steps.PREFIX + module).weight.shape
        name = f"diffusion_model.{module}"
        made[f"{name}.lora_up.weight"] = torch.randn(
            (shape[0], 2, *[1] * (len(shape) - 2)), generator=source
        )
        made[f"{name}.lora_down.weight"] = 0.1 * torch.randn((2, *shape[1:]), generator=source)
    return made


@lru_cache(None)
def alone(pack: Any, chain: Chain, partly: bool) -> str:
    """What the chain draws on a model of its own."""
    model = tiny_host.build_model()
    for edit in chain:
        model = edited(pack, model, edit)
    found = digest_of(drawn(model, partly))
    comfy.model_management.unload_all_models()
    return found


def drawn(model: Any, partly: bool) -> Tensor:
    """What the host's sampler would see the MODEL predict."""
    if not partly:
        return host_steps.output(model)
    comfy.model_management.unload_all_models()
    with torch.inference_mode():
        model.partially_load(tiny_host.CPU, extra_memory=model.model_size() // 2)
        found = host_steps.applied(model, *host_steps.inputs(), torch.full((2,), 1.5))
        model.detach()
    return found


def _bare(model: Any) -> Any:
    """Loaded without any edit."""
    comfy.model_management.unload_all_models()
    return model
