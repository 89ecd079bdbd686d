"""The tiny stand-ins keep the promises that other tests lean on."""

from __future__ import annotations

from typing import Any

import torch

from host_support.tiny_core import TinyDenoiser, TinyTextEncoder


def test_denoiser_is_small_and_follows_its_deltas(tiny_denoiser: TinyDenoiser) -> None:
    assert sum(w.numel() for w in tiny_denoiser.weights.values()) < 50_000
    context = TinyTextEncoder().encode(["a cat", ""])
    x, t = (
        torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
        torch.tensor([3, 90]),
    )
    base = tiny_denoiser.predict(x, t, context)
    deltas = {
        key: torch.full(shape, 0.01, requires_grad=True)
        for key, shape in tiny_denoiser.weight_shapes().items()
    }
    with tiny_denoiser.attached(deltas) as attachment:
        moved = tiny_denoiser.predict(x, t, context)
        moved.square().mean().backward()
        attachment.scale = 0.0
        assert torch.equal(tiny_denoiser.predict(x, t, context), base)
    assert all(d.grad is not None and d.grad.abs().sum() > 0 for d in deltas.values())
    assert not torch.equal(moved, base)
    assert torch.equal(tiny_denoiser.predict(x, t, context), base)


def test_encoder_takes_learned_vectors(tiny_text_encoder: TinyTextEncoder) -> None:
    words = tiny_text_encoder.word_vectors("cat")
    learned = {name: vectors[None].clone().requires_grad_() for name, vectors in words.items()}
    context = tiny_text_encoder.encode_with(learned, "a {} here")
    plain = tiny_text_encoder.encode(["a cat here"])
    assert torch.equal(context.tokens, plain.tokens)
    assert context.extra.keys() == plain.extra.keys()
    context.tokens.sum().backward()
    assert all(v.grad is not None for v in learned.values())


def test_tiny_model_is_what_a_loader_gives(tiny_model: Any, tiny_clip: Any) -> None:
    assert all(p.is_inference() for p in tiny_model.model.parameters())
    with torch.inference_mode():
        tokens = tiny_clip.encode_from_tokens(tiny_clip.tokenize("a (cat:1.2)"))
        assert tokens.shape == (1, 77, 32)
        x = torch.zeros(1, 4, 8, 8)
        out = tiny_model.model.apply_model(x, torch.tensor([1.0]), c_crossattn=tokens)
    assert out.shape == x.shape
    assert bool(out.isfinite().all())
