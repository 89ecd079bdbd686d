"""What a concept set is made of: scaled latents of this model, each under its text."""

from __future__ import annotations

from typing import Any

import pytest
import torch

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
