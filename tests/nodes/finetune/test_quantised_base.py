"""A fine-tune of a quantised model learns what one of its unpacked weights would learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytestmark = pytest.mark.training
SETTINGS: dict[str, Any] = {
    "steps": 3,
    "learning_rate": 1e-2,
    "batch_size": 2,
    "accumulation": 1,
    "seed": 3,
    "flip": False,
    "ema": False,
    "weight_decay": 0.0,
    "gradient_clip": 1.0,
    "rank": 4,
}
FORMATS = ["scaled_fp8", "float8_e4m3fn", "int8_tensorwise", "int8_convrot"]


@pytest.fixture(scope="module")
def weights(comfy_host: Any) -> dict[str, Tensor]:
    from host_support import quantised, tiny_host

    return quantised.plain_weights(tiny_host.build_model())


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_learned_is_that_of_the_unpacked_weights(
    pack: Any, comfy_host: Any, weights: dict[str, Tensor], name: str
) -> None:
    from tverase_pack.nodes.host.model.weights import base_weight, model_shapes

    from host_support import quantised, tiny_host
    from host_support.host_steps import node, output, pictures, same
    from host_support.host_steps import weights as held

    if name not in quantised.known_formats():
        pytest.skip(f"this ComfyUI does not know {name}")
    model = quantised.quantised_model(name, weights)
    before = held(model)
    unpacked = tiny_host.build_model()
    with torch.no_grad():
        for key in model_shapes(model):
            layer, _, last = key.rpartition(".")
            target = unpacked.model.get_submodule(layer)._parameters[last]
            with torch.inference_mode():
                target.copy_(base_weight(model, key))
    learned = [
        node(pack, "ConceptFinetune", model=one, concept_set=pictures(), **SETTINGS)[2].deltas
        for one in (model, unpacked)
    ]
    assert learned[0].keys() == learned[1].keys()
    ours, theirs = (torch.cat([d.flatten() for d in made.values()]) for made in learned)
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.999
    assert same(held(model), before)
    assert output(model).isfinite().all()  # the host can still move and use it
