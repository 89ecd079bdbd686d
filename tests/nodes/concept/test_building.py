"""What a concept set is made of: scaled latents of this model, each under its text."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from host_support import tiny_flow
from tverase_core.errors import ShapeMismatchError


def build(pack: Any, model: Any, clip: Any, latents: torch.Tensor) -> Any:
    from host_support.host_steps import node

    given = {"model": model, "clip": clip, "latents": {"samples": latents}, "concept": "cat"}
    return node(pack, "ConceptSetFromLatents", **given, caption="")[0]


def test_latents_are_scaled_as_the_model_wants_them(
    pack: Any, tiny_model: Any, tiny_clip: Any
) -> None:
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    factor = tiny_model.get_model_object("latent_format").scale_factor
    assert factor != 1
    made = build(pack, tiny_model, tiny_clip, latents)
    torch.testing.assert_close(made.latents, latents * factor)


def test_latents_of_another_model_are_refused(pack: Any, tiny_model: Any, tiny_clip: Any) -> None:
    with pytest.raises(ShapeMismatchError, match="encoded to 16 latent channels, this model has 4"):
        build(pack, tiny_model, tiny_clip, torch.zeros(1, 16, 8, 8))


@pytest.mark.parametrize(("family", "axes"), [("cosmos-predict2", 5), ("z-image", 4)])
def test_drawn_latents_have_the_form_of_the_hosts_own(
    pack: Any, comfy_host: Any, tiny_clip: Any, family: str, axes: int
) -> None:
    """So that VAE Decode takes them: that of Qwen-Image, Anima and Cosmos wants an axis of time."""
    node = pack.NODE_CLASS_MAPPINGS["TVEraseConceptSetFromPrompt"]()
    size = {"width": 64, "height": 64, "batch_size": 2}
    how = {"steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    drawn = {"count": 2, "seed": 1, "caption": "", **size, **how}
    pictures, latents = node.draw(tiny_flow.build(family), tiny_clip, "a cat", "cat", **drawn)
    assert latents["samples"].shape == (2, 16, *[1] * (axes - 4), 8, 8)
    assert pictures.latents.shape == (2, 16, 8, 8)
