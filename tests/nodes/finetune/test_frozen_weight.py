"""A weight that stays: gradients as of the dense sum, and no copy of it in autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import conv2d, linear

from host_support.saved_by_autograd import saved_by_autograd, squares
from tverase_core.finetuning.low_rank import LowRankDeltas, starting_factors
from tverase_core.ports import Context

pytestmark = pytest.mark.training


@pytest.fixture
def model(make_tiny_model: Callable[..., Any]) -> Any:
    return make_tiny_model(storage=torch.float32)


def given() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(4)
    x = torch.randn(2, 4, 16, 16, generator=source)
    return x, torch.tensor([1, 700]), torch.randn(2, 77, 32, generator=source)


def factors_of(denoiser: Any) -> tuple[dict[str, torch.Size], dict[str, torch.Tensor]]:
    shapes = {key: size for key, size in denoiser.weight_shapes().items() if len(size) >= 2}
    factors = starting_factors(shapes, 2, 0, denoiser.device)
    source = torch.Generator().manual_seed(5)
    for factor in factors.values():
        factor.data.normal_(0, 0.1, generator=source)
    return shapes, factors


def test_factors_get_the_gradients_of_the_dense_sum(pack: Any, model: Any) -> None:
    from tverase_pack.nodes.host.model.denoiser import open_denoiser

    x, times, tokens = given()
    made = []
    for dense in (False, True):
        with open_denoiser(model) as denoiser, torch.enable_grad():
            shapes, factors = factors_of(denoiser)
            deltas: Any = LowRankDeltas(shapes, factors)
            with denoiser.attached(dict(deltas) if dense else deltas) as attachment:
                attachment.scale = -0.7
                text = tokens.clone().requires_grad_()
                told = denoiser.predict(x, times, Context(text))
                told.square().mean().backward()
        assert text.grad is not None
        made.append([told.detach(), text.grad, *(f.grad for f in factors.values())])
    for branch, whole in zip(*made, strict=True):
        assert branch is not None
        assert bool(branch.any())
        torch.testing.assert_close(branch, whole, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_a_large_sum_is_made_again_as_strong_as_it_was(
    pack: Any,
    model: Any,
    monkeypatch: pytest.MonkeyPatch,
    at_hand: bool,
    compute: torch.dtype,
) -> None:
    """Whatever the scale is in the backward pass, and also beside deltas that do not learn."""
    from tverase_pack.nodes.host.model import denoiser as host_denoiser
    from tverase_pack.nodes.host.network import frozen_weight

    monkeypatch.setattr(host_denoiser, "compute_dtype", lambda model, fast: compute)
    x, times, tokens = given()
    made = []
    for large in (0, 2**40):
        monkeypatch.setattr(frozen_weight, "LARGE", large)
        with host_denoiser.open_denoiser(model) as denoiser, torch.enable_grad():
            source = torch.Generator().manual_seed(6)
            first, second = (
                {
                    key: (0.05 * torch.randn(shape, generator=source)).requires_grad_(learns)
                    for key, shape in denoiser.weight_shapes().items()
                }
                for learns in (True, False)
            )
            text = tokens.clone().requires_grad_()
            with denoiser.attached(second), denoiser.attached(first) as attachment:
                attachment.scale = -0.7
                told = denoiser.predict(x, times, Context(text))
                attachment.scale = 5.0
                told.square().mean().backward()
        made.append([told.detach(), text.grad, *(delta.grad for delta in first.values())])
    for again, kept in zip(*made, strict=True):
        assert again is not None
        assert bool(again.any())
        assert again.dtype == torch.float32
        rough = {} if compute == torch.float32 else {"rtol": 0.05, "atol": 0.02 * float(kept.std())}
        torch.testing.assert_close(again, kept, **rough)


@pytest.mark.parametrize("learns", ["texts", "factors", "deltas"])
def test_autograd_keeps_no_weight_of_a_layer(
    pack: Any, model: Any, monkeypatch: pytest.MonkeyPatch, learns: str
) -> None:
    """Nor the sum with a delta that learns; the plan counts none."""
    from tverase_pack.nodes.host.model.denoiser import open_denoiser
    from tverase_pack.nodes.host.network import frozen_weight
    from tverase_pack.nodes.host.training.activations import activations

    monkeypatch.setattr(frozen_weight, "LARGE", 0)
    x, times, tokens = given()
    with open_denoiser(model) as denoiser, torch.enable_grad():
        network = denoiser.patcher.model.diffusion_model
        layers = [m for m in network.modules() if frozen_weight.may_stay(m)]
        sums = {squares(m.weight) for m in layers}
        shapes, factors = factors_of(denoiser)
        zeros = {key: torch.zeros(shape).requires_grad_() for key, shape in shapes.items()}
        deltas: Any = {"texts": {}, "factors": LowRankDeltas(shapes, factors), "deltas": zeros}
        text = tokens.clone().requires_grad_(learns == "texts")
        with denoiser.attached(deltas[learns]), saved_by_autograd() as saved:
            told = denoiser.predict(x, times, Context(text))
    assert told.requires_grad
    assert sums
    assert not sums & saved.squares()
    trained = None if learns == "texts" else shapes.__contains__
    low_rank = learns == "factors"
    counted = activations(model, (2, 4, 16, 16), trained, Context(tokens), low_rank=low_rank)
    real = saved.nbytes()
    assert 0.96 * real < counted.whole < 1.04 * real, (counted.whole, real)


def test_any_other_use_of_it_sees_the_sum(pack: Any, comfy_host: Any) -> None:
    from tverase_pack.nodes.host.network.frozen_weight import Branch, FrozenWeight
    from tverase_pack.nodes.host.network.layer_gradients import Held

    source = torch.Generator().manual_seed(6)
    weight, x = torch.randn(3, 5, generator=source), torch.randn(2, 5, generator=source)
    up = torch.randn(3, 1, generator=source).requires_grad_()
    down, bias = torch.randn(1, 5, generator=source), torch.randn(3, generator=source)
    bias.requires_grad_()
    frozen = FrozenWeight.of(
        weight, Held(lambda: weight), lambda: weight + 0.5 * up @ down, [Branch(up, down, 0.5)]
    )
    assert (frozen.shape, frozen.dtype) == ((3, 5), torch.float32)
    whole = weight + 0.5 * (up @ down).detach()
    for told in (x @ frozen.T, frozen.to(torch.float32) @ x.T, frozen.clone(), frozen * 2):
        assert type(told) is torch.Tensor
    torch.testing.assert_close(x @ frozen.T, x @ whole.T)
    torch.testing.assert_close(frozen[1:] - 0.0, whole[1:])
    for told in (linear(x, frozen, bias), linear(input=x, weight=frozen, bias=bias)):
        torch.testing.assert_close(told, linear(x, whole, bias))
        up.grad = bias.grad = None
        told.sum().backward()
        assert up.grad is not None
        assert bias.grad is not None
        torch.testing.assert_close(bias.grad, torch.full((3,), 2.0))
        torch.testing.assert_close(up.grad, 0.5 * (x @ down.T).sum().expand(3, 1))


@pytest.mark.parametrize(
    "words",
    [
        {"padding": 1},
        {"stride": 2, "padding": (1, 0)},
        {"dilation": 2},
        {"padding": "same"},  # told in a word: the dense sum
        {"groups": 2},
    ],
)
def test_a_convolution_beside_is_that_of_the_sum(
    pack: Any, comfy_host: Any, words: dict[str, Any]
) -> None:
    from tverase_pack.nodes.host.network.frozen_weight import Branch, FrozenWeight
    from tverase_pack.nodes.host.network.layer_gradients import Held

    source = torch.Generator().manual_seed(7)
    inputs = 4 // words.get("groups", 1)
    weight, x = (torch.randn(s, generator=source) for s in ((6, inputs, 3, 3), (2, 4, 8, 8)))
    up, down = torch.randn(6, 2, generator=source), torch.randn(2, 9 * inputs, generator=source)
    bias, learned = torch.randn(6, generator=source), []
    for kind in ("beside", "dense"):
        given = [t.clone().requires_grad_() for t in (x, up, down, bias)]

        def whole(u: torch.Tensor = given[1], d: torch.Tensor = given[2]) -> torch.Tensor:
            return weight + 0.5 * (u @ d).view(weight.shape)

        branches = [Branch(given[1], given[2], 0.5)]
        at = (
            FrozenWeight.of(weight, Held(lambda: weight), whole, branches)
            if kind == "beside"
            else whole()
        )
        told = conv2d(given[0], at, given[3], **words)
        told.square().sum().backward()
        learned.append([told.detach(), *(t.grad for t in given)])
    for beside, dense in zip(*learned, strict=True):
        assert beside is not None
        torch.testing.assert_close(beside, dense, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3, 3)])
@pytest.mark.parametrize("learns", [False, True])
def test_the_input_is_kept_for_a_delta_that_learns_alone(
    pack: Any, comfy_host: Any, shape: tuple[int, ...], learns: bool
) -> None:
    from tverase_pack.nodes.host.network.frozen_weight import FrozenWeight
    from tverase_pack.nodes.host.network.layer_gradients import Held
    from tverase_pack.nodes.host.network.room import Added, Room

    x = torch.randn(2, 4, *[8] * (len(shape) - 2)).requires_grad_()
    delta = torch.zeros(shape, requires_grad=learns)
    weight = torch.randn(shape)
    held = Held(lambda: weight, [Added(delta, 1.0, Room())])
    at = FrozenWeight.of(weight, held, lambda: weight + delta)
    with saved_by_autograd() as saved:
        (linear(x, at) if len(shape) == 2 else conv2d(x, at))
    assert saved.nbytes() == (x.nbytes if learns else 0)


def test_a_room_makes_one_sum_after_the_other(pack: Any) -> None:
    from tverase_pack.nodes.host.network.room import Added, Room

    room, source = Room(), torch.Generator().manual_seed(3)
    places = []
    for shape in ((4, 3), (5, 4), (2, 3)):
        weight, first, second = torch.randn(3, *shape, generator=source).unbind()
        stored = weight.clone()
        made = room.sum(
            weight, [Added(first.requires_grad_(), -0.5, room), Added(second, 2.0, room)]
        )
        assert torch.equal(weight, stored)
        wanted = torch.add(torch.add(weight, first, alpha=-0.5), second, alpha=2.0)
        assert torch.equal(made, wanted.detach())
        half = room.sum(weight.bfloat16(), [Added(second, 1.0, room)])
        assert torch.equal(half, weight.bfloat16().float() + second)
        places.append(half.data_ptr())
    assert places[2] == places[1]  # what has grown once is large enough


def test_a_block_computed_again_leaves_each_layer_its_own_sum(pack: Any) -> None:
    """Also where the last layer of it is not the first that the backward pass comes to."""
    from torch.utils.checkpoint import checkpoint
    from tverase_pack.nodes.host.network.layer_gradients import Held, multiplied
    from tverase_pack.nodes.host.network.room import Added, Room

    source, room = torch.Generator().manual_seed(0), Room()
    weights = [torch.randn(6, 6, generator=source) for _ in range(3)]
    deltas = [torch.randn(6, 6, generator=source).requires_grad_() for _ in range(3)]
    x = torch.randn(4, 6, generator=source).requires_grad_()

    def ours(number: int, x: torch.Tensor) -> torch.Tensor:
        added = [Added(deltas[number], 1.0, room)]
        held = Held(lambda: room.sum(weights[number], added), added)
        return multiplied(x, torch.empty(1).expand(6, 6), held, None)

    def plain(number: int, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, weights[number] + deltas[number])

    def gradients(layer: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
        for one in (x, *deltas):
            one.grad = None

        def block(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return layer(1, torch.tanh(layer(0, x))), layer(2, x)

        checkpoint(block, x, use_reentrant=False)[0].square().sum().backward()
        return [one.grad.clone() for one in (x, *deltas[:2])]

    for found, expected in zip(gradients(ours), gradients(plain), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("at_once", [False, True])
def test_large_sums_are_the_same_in_passes_without_gradients(
    pack: Any, model: Any, monkeypatch: pytest.MonkeyPatch, at_hand: bool, at_once: bool
) -> None:
    """Of several edits at a time, and with nothing left of one once it is gone."""
    from tverase_pack.nodes.host.model.denoiser import open_denoiser
    from tverase_pack.nodes.host.network import frozen_weight

    made = []
    for large in (2**40, 0):
        monkeypatch.setattr(frozen_weight, "LARGE", large)
        with open_denoiser(model) as denoiser, torch.no_grad():
            source = torch.Generator().manual_seed(6)
            first, second = (
                {
                    key: torch.randn(size, generator=source) * 0.02
                    for key, size in denoiser.weight_shapes().items()
                }
                for _ in range(2)
            )
            x, times, tokens = given()
            told = [denoiser.predict(x, times, Context(tokens))]
            with denoiser.attached(first) as attachment:
                attachment.scale = -0.7
                told.append(denoiser.predict(x, times, Context(tokens)))
                if at_once:
                    with denoiser.attached(second):
                        told.append(denoiser.predict(x, times, Context(tokens)))
            told.append(denoiser.predict(x, times, Context(tokens)))
        assert torch.equal(told[0], told[-1])
        assert not torch.equal(told[0], told[1])
        made.append(told)
    for small, large_sum in zip(*made, strict=True):
        assert torch.equal(small, large_sum)


@pytest.mark.parametrize("size", [1, 2, 6])
@pytest.mark.parametrize(
    ("stride", "padding", "dilation"), [(1, 1, 1), (2, 1, 1), ((1, 2), (2, 0), (1, 1)), (1, 2, 2)]
)
def test_a_convolution_has_the_gradients_of_autograd(
    pack: Any, size: int, stride: Any, padding: Any, dilation: Any
) -> None:
    """With few places, where the weight's is a product, and with many."""
    from tverase_pack.nodes.host.network.convolution_gradients import (
        _few_places,
        convolution_gradients,
    )
    from tverase_pack.nodes.host.network.weight_gradient import Product

    source = torch.Generator().manual_seed(2)
    x = torch.randn(2, 3, size + 2, size + 2, generator=source, requires_grad=True)
    weight = torch.randn(16, 3, 3, 3, generator=source, requires_grad=True)
    made = conv2d(x, weight, None, stride, padding, dilation)
    back = torch.randn(made.shape, generator=source)
    made.backward(back)
    places, shapes = (stride, padding, dilation, 1), (x.shape, weight.shape)
    assert _few_places(back, places) == (made[:, 0].numel() <= 16)
    for asked in ((True, True), (True, False), (False, True)):
        given_x, given_weight = x if asked[1] else None, weight if asked[0] else None
        towards, of_weight = convolution_gradients(back, given_x, given_weight, shapes, places)
        if isinstance(of_weight, Product):
            of_weight = of_weight.whole()
        found = zip((towards, of_weight), (x.grad, weight.grad), asked, strict=True)
        for gradient, wanted, is_asked in found:
            assert (gradient is not None) == is_asked
            if gradient is not None:
                torch.testing.assert_close(gradient, wanted)


def layer(delta: torch.Tensor, x: torch.Tensor, factor: float, room: Any) -> torch.Tensor:
    """x through a linear layer or a deep convolution of factor * delta, which learns."""
    from tverase_pack.nodes.host.network.layer_gradients import Held, convolved, multiplied
    from tverase_pack.nodes.host.network.room import Added

    held = Held(lambda: (delta.detach() * factor).to(x.dtype), [Added(delta, factor, room)])
    shaped = torch.empty(1).expand(delta.shape)
    if delta.ndim == 2:
        return multiplied(x, shaped, held, None)
    return convolved(conv2d, x, shaped, held, None, (1, 0, 1, 1))


@pytest.mark.parametrize("shape", [(6, 4), (64, 4, 3, 3)])
@pytest.mark.parametrize("factor", [1.0, -0.5])
def test_gradients_gather_over_parts_and_begin_anew_at_a_step(
    pack: Any, comfy_host: Any, shape: tuple[int, ...], factor: float
) -> None:
    """As autograd's own, also where the memory of the last step serves again."""
    from tverase_pack.nodes.host.network.room import Room

    source, room = torch.Generator().manual_seed(8), Room()
    delta = torch.randn(shape, generator=source).requires_grad_()
    plain, places = delta.detach().clone().requires_grad_(), []
    for _ in range(2):
        for _ in range(2):
            x = torch.randn(2, 4, *[4] * (len(shape) - 2), generator=source)
            layer(delta, x, factor, room).square().sum().backward()
            whole = plain * factor
            (linear(x, whole) if len(shape) == 2 else conv2d(x, whole)).square().sum().backward()
            assert delta.grad is not None
            torch.testing.assert_close(delta.grad, plain.grad)
        places.append(delta.grad.data_ptr())
        delta.grad = plain.grad = None
    assert places[0] == places[1]


@pytest.mark.parametrize("leaf", [False, True])
def test_what_is_no_leaf_or_of_another_format_gets_its_gradient_from_autograd(
    pack: Any, comfy_host: Any, leaf: bool
) -> None:
    from tverase_pack.nodes.host.network.room import Room

    source = torch.Generator().manual_seed(9)
    start, x = torch.randn(6, 4, generator=source), torch.randn(3, 4, generator=source)
    learned = start.clone().requires_grad_()
    delta = learned if leaf else learned * 1.0
    told = layer(delta, x.bfloat16() if leaf else x, 1.0, Room()).float()
    (told.square().sum() / 2).backward()
    assert learned.grad is not None
    assert learned.grad.dtype == torch.float32
    rough = {"rtol": 0.05, "atol": 0.2} if leaf else {}
    torch.testing.assert_close(learned.grad, linear(x, start).T @ x, **rough)
