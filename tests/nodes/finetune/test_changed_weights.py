"""What another function did to a weight first stays in it: a pack's, or a LoRA of the host's where
the model is loaded in part. So an edit is measured, and learned from, on the model that is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tverase_core.ports import Context

pytestmark = pytest.mark.training
FORMATS = [torch.float32, torch.float16, torch.bfloat16]


def slot_of(layer: torch.nn.Linear, delta: torch.Tensor | None = None, scale: float = 1.0) -> Any:
    from tverase_pack.nodes.host.network.attachments import Attachment
    from tverase_pack.nodes.host.network.weight_slot import WeightSlot

    stack = [] if delta is None else [Attachment({"a.weight": delta})]
    for attachment in stack:
        attachment.scale = scale
    return WeightSlot("a.weight", stack, layer)


def doubled(weight: torch.Tensor) -> torch.Tensor:
    return weight * 2


@pytest.fixture
def layer() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(8, 8, bias=False).requires_grad_(False)


def test_each_pass_has_the_weight_as_changed_by_then(pack: Any, layer: torch.nn.Linear) -> None:
    """A LoRA in training is another one at each step."""
    slot = slot_of(layer, torch.ones(8, 8))
    layer.weight_function = [doubled, slot]
    rounded = layer.weight.bfloat16()
    with torch.no_grad():
        first, second = slot(doubled(rounded)), slot(rounded)
    torch.testing.assert_close(first.float(), layer.weight * 2 + 1, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(second.float(), layer.weight + 1, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_delta_is_added_to_the_changed_weight(
    pack: Any, layer: torch.nn.Linear, dtype: torch.dtype
) -> None:
    """Also one that is smaller than a step of the rounded weight."""
    delta = torch.full((8, 8), 1e-3)
    slot = slot_of(layer, delta, 0.5)
    layer.weight_function = [doubled, slot]
    rounded = layer.weight.to(dtype)
    with torch.no_grad():
        made = slot(doubled(rounded))
    change = (doubled(rounded).float() - rounded.float()).double()
    whole = layer.weight.double() if dtype == torch.bfloat16 else rounded.double()
    expected = whole + change + 0.5 * delta.double()
    assert made.dtype == dtype
    assert (made.double() - expected).abs().max() <= torch.finfo(dtype).eps


def test_a_lora_of_a_model_in_part_is_a_change(pack: Any, layer: torch.nn.Linear) -> None:
    """Newer hosts keep it beside the functions."""
    slot = slot_of(layer, torch.zeros(8, 8))
    layer.weight_function, layer.weight_lowvram_function = [slot], doubled
    with torch.no_grad():
        made = slot(doubled(layer.weight.bfloat16()))
    torch.testing.assert_close(made, doubled(layer.weight).bfloat16(), rtol=1e-2, atol=1e-3)


def test_gradients_go_through_the_changed_weight(
    pack: Any, make_tiny_model: Callable[..., Any], comfy_host: Any
) -> None:
    from tverase_pack.nodes.host.model.denoiser import open_denoiser

    source = torch.Generator().manual_seed(4)
    x, tokens = (
        torch.randn(2, 4, 16, 16, generator=source),
        torch.randn(2, 77, 32, generator=source),
    )
    found = []
    for by_functions in (True, False):
        model = make_tiny_model(storage=torch.float32).clone()
        made = torch.Generator().manual_seed(9)
        for key, weight in model.model_state_dict().items():
            if key.startswith("diffusion_model.") and weight.ndim >= 2:
                change = 0.03 * torch.randn(weight.shape, generator=made)
                if by_functions:
                    model.add_weight_wrapper(key, lambda w, change=change: w + change.to(w))
                else:
                    model.add_patches({key: ("diff", (change,))}, 1.0)
        with open_denoiser(model) as denoiser, torch.enable_grad():
            text = tokens.clone().requires_grad_()
            told = denoiser.predict(x, torch.tensor([1, 700]), Context(text))
            told.square().mean().backward()
        found.append((told.detach(), text.grad))
    for ours, patched in zip(*found, strict=True):
        torch.testing.assert_close(ours, patched, rtol=1e-4, atol=1e-6)


def test_memory_that_the_next_layer_takes_is_not_read_in_the_backward_pass(
    pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer hosts bring weights to a GPU into one buffer for all layers."""
    from tverase_pack.nodes.host.network.weight_slot import WeightSlot

    monkeypatch.setattr(WeightSlot, "_is_brought", lambda *_: True)
    torch.manual_seed(0)
    layers = [torch.nn.Linear(8, 8, bias=False).requires_grad_(False) for _ in range(3)]
    layers[0].weight_function = [doubled]
    buffer, x = torch.empty(8, 8), torch.randn(3, 8, requires_grad=True)
    before, at = x, x
    for layer in layers:
        slot = slot_of(layer)
        functions = getattr(layer, "weight_function", [])
        functions.append(slot)
        buffer.copy_(layer.weight)
        for function in functions[:-1]:
            buffer.copy_(function(buffer))
        at = torch.nn.functional.linear(at, slot(buffer))
        before = torch.nn.functional.linear(before, layer.weight * (2 if len(functions) > 1 else 1))
    (found,) = torch.autograd.grad(at.square().sum(), x)
    (expected,) = torch.autograd.grad(before.square().sum(), x)
    torch.testing.assert_close(found, expected)


@pytest.mark.skipif(not hasattr(torch, "float8_e4m3fn"), reason="this torch has no 8-bit numbers")
def test_an_edit_is_not_rounded_to_8_bits(pack: Any, layer: torch.nn.Linear) -> None:
    """Hosts that multiply in 8 bits hand over such, and take what is larger another way."""
    layer.weight.data = layer.weight.data.to(torch.float8_e4m3fn)
    weight, delta = layer.weight.detach(), torch.full((8, 8), 2e-3)
    with torch.no_grad():
        assert slot_of(layer)(weight).dtype == torch.float8_e4m3fn
        made = slot_of(layer, delta)(weight)
    assert torch.equal(made, (weight.float() + delta).bfloat16())
