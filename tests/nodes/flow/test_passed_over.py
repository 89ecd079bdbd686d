"""What ComfyUI's patches pass over: Z-Image's padding tokens, AuraFlow's and SD3's positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from host_support.tiny_flow import build

LEFT_OUT = {
    "z-image": ["cap_pad_token", "x_pad_token"],
    "auraflow": ["positional_encoding", "register_tokens"],
    "sd3": ["pos_embed"],
    "wan2.1": ["blocks.0.modulation", "blocks.1.modulation", "head.modulation"],
}


@pytest.mark.parametrize("family", LEFT_OUT)
@pytest.mark.parametrize("precision", ["patch", "runtime_exact"])
def test_an_edit_reaches_what_the_hosts_patches_pass_over(
    pack: Any, comfy_host: Any, family: str, precision: str
) -> None:
    """The host takes patches for them and leaves them out, without a word."""
    from tverase_pack.nodes.host.model.weights import effective_weight, fingerprint

    from host_support.host_steps import PREFIX, materialised, same, weights
    from host_support.vector_steps import erase, vector_for

    model = build(family)
    before, base, vector = weights(model), fingerprint(model), vector_for(model)
    halfway = erase(pack, model, vector, 0.5, precision=precision)
    erased = erase(pack, halfway, vector, 1.0, precision=precision)
    assert fingerprint(erased) == base
    held = materialised(erased)
    for name in LEFT_OUT[family]:
        key = PREFIX + name
        wanted = before[key] - 1.5 * vector.deltas[key]
        torch.testing.assert_close(held[key], wanted)
        torch.testing.assert_close(effective_weight(erased, key), wanted)
    assert same(weights(model), before)


def test_a_fine_tune_leaves_them_alone(pack: Any, comfy_host: Any) -> None:
    """Stock Load LoRA could not subtract what they learned."""
    from tverase_pack.nodes.host.model.denoiser import open_denoiser

    model = build("z-image")
    with open_denoiser(model) as denoiser:
        known = denoiser.weight_shapes()
    assert not [name for name in LEFT_OUT["z-image"] if f"diffusion_model.{name}" in known]
