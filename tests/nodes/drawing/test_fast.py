"""Concept pictures on a CPU that is fast in bfloat16: near enough, and no trace in the base."""

from __future__ import annotations

from typing import Any

import pytest
import torch

PROMPTS = {
    "prompt": "a cat",
    "concept": "cat",
    "count": 2,
    "width": 64,
    "height": 64,
    "seed": 1,
    "steps": 2,
    "cfg": 2.0,
    "sampler_name": "euler",
    "scheduler": "normal",
    "batch_size": 2,
    "caption": "",
}


@pytest.fixture
def float32_model(make_tiny_model: Any) -> Any:
    """Only such models have a fast way."""
    return make_tiny_model(storage=torch.float32)


def pictures(pack: Any, model: Any, clip: Any) -> torch.Tensor:
    """Float32 [2, 4, 8, 8]: the concept set of the node."""
    from host_support.host_steps import node

    made = node(pack, "ConceptSetFromPrompt", model=model, clip=clip, **PROMPTS)[0]
    latents: torch.Tensor = made.latents
    return latents


@pytest.mark.training
def test_the_fast_way_draws_nearly_the_same_with_the_models_patches(
    pack: Any, float32_model: Any, tiny_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.host.model import numerics

    patched = float32_model.clone()
    shapes = {k: v.shape for k, v in float32_model.model.state_dict().items() if v.ndim > 1}
    patched.add_patches({key: (torch.full(shape, 0.02),) for key, shape in shapes.items()})
    found = {}
    for fast in (False, True):
        monkeypatch.setattr(numerics, "has_fast_bfloat16", lambda device, fast=fast: fast)
        found[fast] = [pictures(pack, one, tiny_clip) for one in (float32_model, patched)]
    for exact, quick in zip(found[False], found[True], strict=True):
        assert float((exact - quick).norm() / exact.norm()) < 0.08
        assert not torch.equal(exact, quick)
    plain, moved = found[True]
    assert float((plain - moved).norm() / plain.norm()) > 0.2


@pytest.mark.training
@pytest.mark.parametrize("fails", [False, True])
def test_the_base_is_what_it_was_after_the_fast_way(
    pack: Any, float32_model: Any, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    from tverase_pack.nodes.host.drawing.fast import fast_to_draw
    from tverase_pack.nodes.host.model import numerics

    from host_support import host_steps as steps

    monkeypatch.setattr(numerics, "has_fast_bfloat16", lambda device: True)
    held, drawn = steps.weights(float32_model), steps.output(float32_model)
    casts = [getattr(m, "comfy_cast_weights", None) for m in float32_model.model.modules()]
    computes_in = float32_model.model.manual_cast_dtype
    try:
        with fast_to_draw(float32_model) as model:
            assert model is not float32_model
            quick = steps.output(model)
            assert not torch.equal(quick, drawn)
            if fails:
                raise InterruptedError
    except InterruptedError:
        assert fails
    now = [getattr(m, "comfy_cast_weights", None) for m in float32_model.model.modules()]
    assert now == casts
    assert float32_model.model.manual_cast_dtype == computes_in
    assert steps.same(steps.weights(float32_model), held)
    assert torch.equal(steps.output(float32_model), drawn)


def test_elsewhere_the_model_itself_draws(
    pack: Any, make_tiny_model: Any, float32_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.host.drawing.fast import fast_to_draw
    from tverase_pack.nodes.host.model import numerics

    monkeypatch.setattr(numerics, "has_fast_bfloat16", lambda device: True)
    stored_in_half = make_tiny_model()
    with fast_to_draw(stored_in_half) as model:
        assert model is stored_in_half
    monkeypatch.setattr(numerics, "has_fast_bfloat16", lambda device: False)
    with fast_to_draw(float32_model) as model:
        assert model is float32_model
