"""A description tells apart what computes otherwise, and is the same in another process."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch


def scaled(model: Any, factor: float) -> Any:
    """A clone with a function around every call of the network."""
    clone = model.clone()
    clone.set_model_unet_function_wrapper(functools.partial(torch.mul, factor))
    return clone


@pytest.fixture
def digest(pack: Any) -> Callable[..., str]:
    from tverase_pack.nodes.host.training.identity import Description

    return lambda *values: Description(*values).digest()


def test_every_kind_of_edit_counts(
    pack: Any, digest: Callable[..., str], make_tiny_model: Any
) -> None:
    from comfy_extras.nodes_freelunch import FreeU
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete, RescaleCFG

    from host_support import attack_steps
    from host_support.host_steps import node

    def erased(strength: float, precision: str) -> Any:
        model = make_tiny_model()
        vector = attack_steps.bright_vector(model)
        given = {"strength": strength, "precision": precision, "other_weights": "refuse"}
        return node(pack, "ApplyNegatedTV", model=model, task_vector=vector, **given)[0]

    def sampling(zsnr: bool) -> Any:
        return ModelSamplingDiscrete().patch(make_tiny_model(), "eps", zsnr)[0]

    def freed(b1: float) -> Any:
        patch = FreeU().patch if hasattr(FreeU, "patch") else FreeU.execute  # by the host's age
        return patch(make_tiny_model(), b1, 1.2, 0.9, 0.2)[0]

    makers: list[Callable[[], Any]] = [
        make_tiny_model,
        lambda: make_tiny_model(seed=1),
        lambda: make_tiny_model(storage=torch.float32),
        lambda: erased(1.0, "patch"),
        lambda: erased(1.5, "patch"),
        lambda: erased(1.0, "runtime_exact"),
        lambda: sampling(False),
        lambda: sampling(True),
        lambda: freed(1.1),
        lambda: freed(1.3),
        lambda: RescaleCFG().patch(make_tiny_model(), 0.5)[0],
        lambda: RescaleCFG().patch(make_tiny_model(), 0.7)[0],
        lambda: scaled(make_tiny_model(), 1.0),
        lambda: scaled(make_tiny_model(), 2.0),
    ]
    first = [digest(make()) for make in makers]
    assert len(set(first)) == len(makers)
    assert [digest(make()) for make in makers] == first


def test_drawing_with_it_changes_nothing(
    digest: Callable[..., str], pack: Any, make_tiny_model: Any
) -> None:
    from tverase_pack.nodes.demo_nodes import MODEL_FOLDER
    from tverase_pack.nodes.host.app.demo_model import load_demo_model

    from host_support.host_steps import output

    model, vae = make_tiny_model(), load_demo_model(MODEL_FOLDER)[2]
    before = digest(model), digest(vae)
    output(model)
    vae.decode(torch.zeros(1, vae.latent_channels, 4, 4))
    assert (digest(model), digest(vae)) == before
    assert digest(load_demo_model(MODEL_FOLDER)[2]) == before[1]
    with torch.no_grad():
        next(vae.first_stage_model.parameters()).view(-1)[0] += 1e-3
    assert digest(vae) != before[1]


def test_judges_are_told_apart(digest: Callable[..., str], pack: Any) -> None:
    from tverase_pack.demo.judge_network import load_demo_judge
    from tverase_pack.nodes.demo_nodes import MODEL_FOLDER

    from tverase_core.judging.prototype_judge import PrototypeJudge, fit_prototype

    def fitted(seed: int, others: Any = None) -> Any:
        source = torch.Generator().manual_seed(seed)
        shown, counter = (torch.randn(8, 3, generator=source) + at for at in (9, -9))
        return PrototypeJudge(torch.square, {"cat": fit_prototype("cat", shown, counter)}, others)

    demo = load_demo_judge(MODEL_FOLDER / "demo_judge.safetensors")
    makers = [lambda: demo, lambda: fitted(1), lambda: fitted(2), lambda: fitted(1, demo)]
    first = [digest(make()) for make in makers]
    assert len(set(first)) == len(makers)
    assert [digest(make()) for make in makers] == first
    with torch.no_grad():
        demo.network.objects.bias[0] += 1e-3
    assert digest(demo) != first[0]


class Stranger:
    """Another pack's."""


def opaque() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Stranger(), "Stranger"),
        ({"a": [Stranger()]}, "Stranger"),
        (lambda: 1, "<lambda>"),
        (opaque(), "generator"),
        (torch.Generator(), "Generator"),
        (torch.ones(2, device="meta"), "Tensor"),
        (torch.nn.Sequential(type("Layer", (torch.nn.Module,), {})()), "Layer"),
    ],
)
def test_what_is_not_known_is_named(pack: Any, value: Any, name: str) -> None:
    from tverase_pack.nodes.host.training.identity import Description

    assert [word.rpartition(".")[2] for word in Description(value).unknown] == [name]


def test_values_count_with_their_kind_and_place(digest: Callable[..., str]) -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    values: list[Any] = [
        *(1, 1.0, True, "1", b"1", None, [], {}, [1], (1,), {1}, [[1], 2], [1, [2]], loop),
        *(torch.ones(2), torch.ones(1, 2), torch.ones(2, dtype=torch.int64), torch.float32),
        *({"a": 1, "b": 2}, {"a": 2, "b": 1}, functools.partial(torch.mul, 1), torch.mul),
        *(functools.partial(torch.mul, 2), range(2), range(3), torch.nn.Linear, torch.Size([1])),
    ]
    assert len({digest(value) for value in values}) == len(values)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(1, 2) != digest(12)
