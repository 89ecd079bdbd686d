"""Deltas that are small against the number format that the host computes in, as on GPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.training
KEY = "diffusion_model.input_blocks.0.0.weight"


def acting(
    make: Callable[..., Any],
    clip: Any,
    monkeypatch: pytest.MonkeyPatch,
    compute: torch.dtype,
    size: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(W as computed with, W + delta as computed with), float32; delta is `size` everywhere."""
    import tverase_pack.nodes.host.model.denoiser as host_denoiser
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    monkeypatch.setattr(host_denoiser, "compute_dtype", lambda model, fast: compute)
    model, seen = make(), list[torch.Tensor]()
    layer = model.model.get_submodule(KEY.rpartition(".")[0])
    plain = layer._conv_forward

    def recorded(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        seen.append(weight.float().clone())
        made: torch.Tensor = plain(x, weight, bias)
        return made

    context = HostTextEncoder(model, clip).encode(["a cat"])
    monkeypatch.setattr(layer, "_conv_forward", recorded)
    deltas = {KEY: torch.full(layer.weight.shape, size)}
    with host_denoiser.open_denoiser(model) as denoiser, denoiser.attached(deltas) as attachment:
        for scale in (1.0, 0.0):
            attachment.scale = scale
            with torch.no_grad():
                denoiser.predict(torch.zeros(1, 4, 8, 8), torch.tensor([500]), context)
    moved, given = seen
    assert torch.equal(given, layer.weight.to(compute).float())
    return given, moved


def test_a_small_delta_acts_in_bfloat16_as_much_as_it_should(
    pack: Any,
    make_tiny_model: Callable[..., Any],
    tiny_clip: Any,
    monkeypatch: pytest.MonkeyPatch,
    at_hand: bool,
) -> None:
    before, after = acting(make_tiny_model, tiny_clip, monkeypatch, torch.bfloat16, 1e-4)
    largest = before.abs().amax()
    assert largest * 2**-9 > 1e-4, "half a step of the largest weights is more than the delta"
    # The mean over many weights; the base's own rounding has mean zero.
    assert float((after - before).mean()) == pytest.approx(1e-4, rel=0.35)


def test_float32_adds_to_what_the_host_gives(
    pack: Any,
    make_tiny_model: Callable[..., Any],
    tiny_clip: Any,
    monkeypatch: pytest.MonkeyPatch,
    at_hand: bool,
) -> None:
    before, after = acting(make_tiny_model, tiny_clip, monkeypatch, torch.float32, 1e-4)
    assert torch.equal(after, before + 1e-4)


@pytest.mark.parametrize("guidance", [0.0, 5.0])
def test_a_cpu_fast_in_bfloat16_learns_in_it_what_it_would_in_float32(
    pack: Any,
    make_tiny_model: Callable[..., Any],
    tiny_clip: Any,
    monkeypatch: pytest.MonkeyPatch,
    guidance: float,
) -> None:
    """Also a guided target, which multiplies a difference of predictions, and its rounding."""
    from tverase_pack.nodes.host.model import numerics

    from host_support.host_steps import TUNING, node, pictures

    model = make_tiny_model(storage=torch.float32)
    given = {"model": model, "clip": tiny_clip, "latents": {"samples": pictures().latents}}
    named = node(
        pack, "ConceptSetFromLatents", **given, concept="cat", caption="a cat", caption_share=0.5
    )[0]
    learned = []
    for fast in (False, True):
        monkeypatch.setattr(numerics, "has_fast_bfloat16", lambda device, fast=fast: fast)
        settings = {**TUNING, "steps": 4, "guidance": guidance}
        vector = node(pack, "ConceptFinetune", model=model, concept_set=named, **settings)[2]
        learned.append(torch.cat([delta.flatten() for delta in vector.deltas.values()]))
    exact, quick = learned
    assert not torch.equal(exact, quick)
    assert float(torch.cosine_similarity(exact, quick, dim=0)) > 0.95
