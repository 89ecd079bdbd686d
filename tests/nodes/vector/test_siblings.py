"""A text-to-image model's vector on the family's inpainting and editing models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from host_support.vector_steps import erase, vector_for
from tverase_core.errors import BaseMismatchError, ShapeMismatchError
from tverase_core.model.block_mask import BlockMask

Make = Callable[..., Any]
FIRST = "diffusion_model.input_blocks.0.0.weight"


def sibling_of(model: Any, channels: int) -> Any:
    """The same weights with more input channels, whose weights are 1."""
    import comfy.model_base
    import comfy.model_patcher

    from host_support import tiny_host
    from host_support.host_steps import weights

    held = {key.removeprefix("diffusion_model."): v for key, v in weights(model).items()}
    wide = torch.ones(32, channels, 3, 3)
    wide[:, :4] = held["input_blocks.0.0.weight"]
    with torch.inference_mode():
        config = tiny_host.TinySD15({**tiny_host.UNET, "in_channels": channels})
        config.set_inference_dtype(torch.float32, None)
        inner = comfy.model_base.BaseModel(config, device="cpu")
        inner.diffusion_model.load_state_dict({**held, "input_blocks.0.0.weight": wide})
    return comfy.model_patcher.ModelPatcher(inner, tiny_host.CPU, tiny_host.CPU)


@pytest.mark.parametrize("channels", [9, 8, 5])
def test_the_delta_acts_on_the_first_channels(
    pack: Any, make_tiny_model: Make, channels: int
) -> None:
    """9: inpainting, 8: editing, 5: depth. All other weights change as the base's do."""
    from host_support.host_steps import materialised, same, weights

    model = make_tiny_model(storage=torch.float32)
    sibling, vector = sibling_of(model, channels), vector_for(model)
    held = weights(sibling)
    right = materialised(erase(pack, model, vector, 0.7))
    got = materialised(erase(pack, sibling, vector, 0.7, other_weights="allow"))
    assert torch.equal(got[FIRST][:, :4], right[FIRST])
    assert bool((got[FIRST][:, 4:] == 1).all())
    assert same({**got, FIRST: right[FIRST]}, right)
    assert same(weights(sibling), held)


def test_refuse_names_the_way_on_and_a_mask_is_kept(pack: Any, make_tiny_model: Make) -> None:
    model = make_tiny_model(storage=torch.float32)
    sibling, vector = sibling_of(model, 9), vector_for(model)
    with pytest.raises(BaseMismatchError, match=r"9 input channels for 4\. .*to allow"):
        erase(pack, sibling, vector, 0.7)
    mask = BlockMask({"IN00": 0.0}, other_blocks=1.0)
    edited = erase(pack, sibling, vector, 0.7, other_weights="allow", block_mask=mask)
    assert FIRST not in edited.patches
    assert len(edited.patches) > 100


@pytest.mark.injections
def test_runtime_exact_reaches_it_too(pack: Any, make_tiny_model: Make) -> None:
    from tverase_pack.nodes.host.model.exact import exact_edits

    model = make_tiny_model(storage=torch.float32)
    vector = vector_for(model)
    given = {"other_weights": "allow", "precision": "runtime_exact"}
    edited = erase(pack, sibling_of(model, 9), vector, 0.7, **given)
    delta, scale = exact_edits(edited)[0][FIRST]
    assert scale == -0.7
    assert torch.equal(delta[:, :4], vector.deltas[FIRST])
    assert not delta[:, 4:].any()


def test_vectors_of_other_models_are_refused_as_ever(pack: Any, make_tiny_model: Make) -> None:
    """An inpainting model's own on the text-to-image one, and one channel short of another."""
    model = make_tiny_model(storage=torch.float32)
    wide = sibling_of(model, 9)
    for target, vector in ((model, vector_for(wide)), (wide, vector_for(sibling_of(model, 8)))):
        with pytest.raises((BaseMismatchError, ShapeMismatchError)):
            erase(pack, target, vector, 0.7, other_weights="allow")
    assert erase(pack, wide, vector_for(wide), 0.7).patches
