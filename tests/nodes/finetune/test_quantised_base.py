"""A fine-tune of a quantised model learns what one of its unpacked weights would learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from host_support.saved_by_autograd import saved_by_autograd, squares

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
@pytest.mark.parametrize("rank", [4, 0])
def test_what_is_learned_is_that_of_the_unpacked_weights(
    pack: Any, comfy_host: Any, weights: dict[str, Tensor], name: str, rank: int, monkeypatch: Any
) -> None:
    """In equal arithmetic: of the two, only the float32 one would compute in bfloat16."""
    from tverase_pack.nodes.host.model import numerics
    from tverase_pack.nodes.host.model.weights import base_weight, model_shapes
    from tverase_pack.nodes.host.network import frozen_weight

    from host_support import quantised, tiny_host
    from host_support.host_steps import node, output, pictures, same
    from host_support.host_steps import weights as held

    if name not in quantised.known_formats():
        pytest.skip(f"this ComfyUI does not know {name}")
    monkeypatch.setattr(numerics, "has_fast_bfloat16", lambda device: False)
    monkeypatch.setattr(frozen_weight, "LARGE", 0)
    model = quantised.quantised_model(name, weights)
    before = held(model)
    unpacked = tiny_host.build_model()
    with torch.no_grad():
        for key in model_shapes(model):
            layer, _, last = key.rpartition(".")
            target = unpacked.model.get_submodule(layer)._parameters[last]
            with torch.inference_mode():
                target.copy_(base_weight(model, key))
    settings = {**SETTINGS, "rank": rank}
    learned = [
        node(pack, "ConceptFinetune", model=one, concept_set=pictures(), **settings)[2].deltas
        for one in (model, unpacked)
    ]
    assert learned[0].keys() == learned[1].keys()
    ours, theirs = (torch.cat([d.flatten() for d in made.values()]) for made in learned)
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.999
    assert same(held(model), before)
    assert output(model).isfinite().all()  # the host can still move and use it


@pytest.mark.parametrize("name", [None, *FORMATS[1:]])
@pytest.mark.parametrize("low_rank", [False, True])
def test_autograd_keeps_no_unpacked_weight(
    pack: Any, comfy_host: Any, weights: dict[str, Tensor], name: str | None, low_rank: bool
) -> None:
    """None: of a plain format. The plan counts what is kept."""
    from tverase_pack.nodes.host.model.denoiser import open_denoiser
    from tverase_pack.nodes.host.model.weights import base_weight
    from tverase_pack.nodes.host.training.activations import activations
    from tverase_pack.tverase_core.finetuning.low_rank import LowRankDeltas, starting_factors
    from tverase_pack.tverase_core.ports import Context

    from host_support import quantised, tiny_host

    if name is not None and name not in quantised.known_formats():
        pytest.skip(f"this ComfyUI does not know {name}")
    model = quantised.quantised_model(name, weights) if name else tiny_host.build_model()
    x, times, tokens = torch.randn(2, 4, 16, 16), torch.tensor([1, 700]), torch.randn(2, 77, 32)
    with open_denoiser(model) as denoiser, torch.enable_grad():
        shapes = {key: size for key, size in denoiser.weight_shapes().items() if len(size) >= 2}
        dtype = denoiser.patcher.model.manual_cast_dtype or denoiser.patcher.model.get_dtype()
        sums = {squares(base_weight(model, key).to(dtype)) for key in shapes}
        factors = starting_factors(shapes, 2, 0, denoiser.device) if low_rank else {}
        text = Context(tokens.requires_grad_(not low_rank))
        deltas = LowRankDeltas(shapes, factors) if low_rank else {}
        with denoiser.attached(deltas), saved_by_autograd() as saved:
            told = denoiser.predict(x, times, text)
    assert told.requires_grad
    assert not sums & saved.squares()
    trained = shapes.__contains__ if low_rank else None
    counted = activations(model, (2, 4, 16, 16), trained, Context(tokens), low_rank=low_rank).whole
    assert 0.96 * saved.nbytes() < counted < 1.04 * saved.nbytes()
