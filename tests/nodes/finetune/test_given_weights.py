"""On a CPU layers compute with our sums without the host's copies: to the same bits, and only then.

So a denoiser's results do not depend on the way, another clone of the MODEL is drawn unedited while
one is open, and what other packs do to a weight comes before what we add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.training
KEY = "diffusion_model.input_blocks.0.0.weight"
STORED = (torch.float32, torch.float16, torch.bfloat16)


def layer_of(model: Any) -> Any:
    return model.model.get_submodule(KEY.rpartition(".")[0])


def answer(denoiser: Any, context: Any) -> torch.Tensor:
    x_t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    made: torch.Tensor = denoiser.predict(x_t, torch.tensor([100, 700]), context)
    return made


def asked(model: Any, context: Any, deltas: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Predictions with and without the deltas, and the deltas' gradients if they ask for some."""
    from tverase_pack.nodes.host.model.denoiser import open_denoiser

    learned = [delta for delta in deltas.values() if delta.requires_grad]
    with (
        open_denoiser(model, autocast=True) as denoiser,
        torch.enable_grad(),
        denoiser.attached(deltas) as attachment,
    ):
        made = answer(denoiser, context)
        if learned:
            made.square().mean().backward()
        attachment.scale = 0.0
        without = answer(denoiser, context)
    return [made.detach(), without.detach(), *(delta.grad for delta in learned)]


@contextmanager
def adding_one(model: Any) -> Iterator[Any]:
    """A denoiser that computes with 1 added to every number of one weight."""
    from tverase_pack.nodes.host.model.denoiser import open_denoiser

    deltas = {KEY: torch.ones(layer_of(model).weight.shape)}
    with open_denoiser(model) as denoiser, denoiser.attached(deltas):
        yield denoiser


def bypassed(model: Any, change: torch.Tensor) -> Any:
    """A clone with a bypass LoRA on one layer, as newer hosts' `Load LoRA (Bypass)` makes them: it
    exchanges the layer's `forward` whenever the clone is loaded."""
    from comfy.patcher_extension import PatcherInjection

    layer, kept = layer_of(model), list[Any]()

    def inject(_: Any) -> None:
        if not kept:
            kept.append(layer.forward)
            layer.forward = beside

    def beside(x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = kept[0](x) + torch.nn.functional.conv2d(x, change, padding=1)
        return made

    def eject(_: Any) -> None:
        if kept:
            layer.forward = kept.pop()

    clone = model.clone()
    clone.set_injections("bypass_lora", [PatcherInjection(inject, eject)])
    return clone


@pytest.mark.parametrize("drawn_before", [False, True])
@pytest.mark.parametrize("given", ["base", "bypassed"])
def test_a_bypass_lora_and_deltas_act_together_and_leave_nothing(
    pack: Any, make_tiny_model: Callable[..., Any], given: str, drawn_before: bool
) -> None:
    import comfy.model_management

    model = make_tiny_model()
    layer, x = layer_of(model), torch.ones(1, 4, 8, 8)
    change = torch.full(layer.weight.shape, 0.5)
    clone = bypassed(model, change)
    with torch.no_grad():
        if drawn_before:
            comfy.model_management.load_models_gpu([clone])
        with adding_one(clone if given == "bypassed" else model):
            made = layer(x)
        comfy.model_management.load_models_gpu([model])
        after = layer(x)
    weight, bias = layer.weight.float(), layer.bias.float()
    added = 1 + change if given == "bypassed" else 1
    for got, used in ((made, weight + added), (after, weight)):
        expected = torch.nn.functional.conv2d(x, used, bias, 1, 1)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert getattr(vars(layer).get("forward"), "__name__", "forward") == "forward"


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("storage", STORED)
def test_both_ways_give_the_same_bits(
    pack: Any,
    make_tiny_model: Callable[..., Any],
    tiny_clip: Any,
    monkeypatch: pytest.MonkeyPatch,
    storage: torch.dtype,
    learns: bool,
    fast: bool,
) -> None:
    from tverase_pack.nodes.host.model import numerics, slots
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    monkeypatch.setattr(numerics, "has_fast_bfloat16", lambda device: fast)
    model = make_tiny_model(storage=storage)
    context = HostTextEncoder(model, tiny_clip).encode(["a cat", "a dog"])
    source = torch.Generator().manual_seed(1)
    values = {
        key: 0.01 * torch.randn(shape, generator=source)
        for key, shape in slots.trainable_shapes(model).items()
    }
    ways = []
    for at_hand in (slots._is_at_hand, lambda *_: False):
        monkeypatch.setattr(slots, "_is_at_hand", at_hand)
        with torch.inference_mode(False):
            deltas = {key: value.clone().requires_grad_(learns) for key, value in values.items()}
            ways.append(asked(model, context, deltas))
    assert not torch.equal(ways[0][0], ways[0][1])
    for ours, hosts in zip(*ways, strict=True):
        assert torch.equal(ours, hosts)


def test_layers_are_as_before_also_after_an_error(
    pack: Any, make_tiny_model: Callable[..., Any], tiny_clip: Any
) -> None:
    from tverase_pack.nodes.host.model.denoiser import open_denoiser
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    model = make_tiny_model()
    layer = layer_of(model)
    layer.forward = own = partial(layer.forward)  # as another pack may have put one there
    context = HostTextEncoder(model, tiny_clip).encode(["a cat"])
    with pytest.raises(RuntimeError, match="expected input"), open_denoiser(model) as denoiser:
        denoiser.predict(torch.zeros(1, 3, 8, 8), torch.tensor([500]), context)
    for module in model.model.modules():
        assert not {"weight", "bias"} & module.__dict__.keys()
        assert not module._forward_pre_hooks
        assert not module._forward_hooks
        assert "forward" not in module.__dict__ or module is layer
    assert layer.forward is own


def test_an_error_inside_a_layer_leaves_it_its_own_weight(
    pack: Any, make_tiny_model: Callable[..., Any]
) -> None:
    from tverase_pack.nodes.host.model.denoiser import open_denoiser

    model = make_tiny_model()
    layer = layer_of(model)
    stored = layer.weight
    with open_denoiser(model):
        with pytest.raises(RuntimeError, match="expected input"):
            layer(torch.zeros(1, 3, 8, 8))
        assert layer.weight is stored


def test_another_clone_is_unedited_while_a_denoiser_is_open(
    pack: Any, make_tiny_model: Callable[..., Any], tiny_clip: Any
) -> None:
    import comfy.model_management

    model = make_tiny_model()
    layer, x = layer_of(model), torch.ones(1, 4, 8, 8)
    other = model.clone()
    other.set_model_compute_dtype(torch.float32)
    with torch.no_grad(), adding_one(model) as denoiser:
        edited = layer(x)
        comfy.model_management.load_models_gpu([other], force_full_load=True)
        unedited = layer(x)
        denoiser.ensure_loaded()
        again = layer(input=x)
    expected = torch.nn.functional.conv2d(x, layer.weight.float(), layer.bias.float(), 1, 1)
    torch.testing.assert_close(unedited, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(edited, again)
    assert not torch.equal(edited, unedited)


def test_what_another_pack_does_to_a_weight_comes_first(
    pack: Any, make_tiny_model: Callable[..., Any], tiny_clip: Any
) -> None:
    model = make_tiny_model()
    layer, x = layer_of(model), torch.ones(1, 4, 8, 8)
    model.add_weight_wrapper(KEY, lambda weight: weight * 2)
    with torch.no_grad(), adding_one(model):
        made = layer(x)
    weight = layer.weight.float() * 2 + 1
    expected = torch.nn.functional.conv2d(x, weight, layer.bias.float(), 1, 1)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


def test_of_a_layer_with_two_names_the_first_counts(
    pack: Any, make_tiny_model: Callable[..., Any], at_hand: bool
) -> None:
    from tverase_pack.nodes.host.model import denoiser

    model = make_tiny_model()
    layer, x = layer_of(model), torch.ones(1, 4, 8, 8)
    model.model.diffusion_model.twin = layer
    shape = layer.weight.shape
    deltas = {KEY: torch.ones(shape), "diffusion_model.twin.weight": torch.full(shape, 5.0)}
    with torch.no_grad(), denoiser.open_denoiser(model) as opened, opened.attached(deltas):
        made = layer(x)
    expected = torch.nn.functional.conv2d(x, layer.weight.float() + 1, layer.bias.float(), 1, 1)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
