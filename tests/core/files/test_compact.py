"""Compact files: small, as near as stated, and what the stock loader multiplies out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from host_support.edit_samples import BASE, TEXT_KEY
from tverase_core.errors import ConfigError, FormatError
from tverase_core.files.compact import compact_tensors, multiplied_out, save_compact
from tverase_core.files.task_vector_file import (
    load_task_vector,
    read_provenance,
    read_task_vector_header,
    save_task_vector,
)
from tverase_core.vector.task_vector import TaskVector

ATTENTION = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
CONVOLUTION = "diffusion_model.input_blocks.1.0.in_layers.2.weight"
BIAS = "diffusion_model.input_blocks.1.0.in_layers.2.bias"


def of_rank(rank: int, *shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    columns = torch.Size(shape[1:]).numel()
    up = torch.randn(shape[0], rank, generator=source)
    return (up @ torch.randn(rank, columns, generator=source)).reshape(shape)


@pytest.fixture
def low() -> TaskVector:
    """A matrix of rank 3, a convolution of rank 2, a bias."""
    return TaskVector(
        {
            ATTENTION: of_rank(3, 24, 16),
            CONVOLUTION: of_rank(2, 16, 8, 3, 3, seed=1),
            BIAS: torch.arange(16.0),
        },
        BASE,
    )


def relative(got: TaskVector, wanted: TaskVector) -> float:
    return (got - wanted).norm() / wanted.norm()


def test_factors_find_the_rank_and_lose_nothing(low: TaskVector) -> None:
    made = compact_tensors(low, 1e-5, "float32")
    assert made.ranks == {ATTENTION: 3, CONVOLUTION: 2}
    assert made.error < 1e-5
    assert made.kept == pytest.approx((3 * 40 + 2 * 88 + 16) / (384 + 1152 + 16))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_round_trip(tmp_path: Path, low: TaskVector, dtype: Any) -> None:
    made = save_compact(tmp_path / "cat.tv.safetensors", low, 1e-4, dtype=dtype)
    read = load_task_vector(tmp_path / "cat.tv.safetensors")
    assert relative(read, low) == pytest.approx(made.error, rel=1e-3, abs=1e-6)
    assert made.error < (1e-4 if dtype == "float32" else 5e-3)
    assert read.base == low.base


def test_the_file_says_what_was_lost(tmp_path: Path) -> None:
    path = tmp_path / "cat.tv.safetensors"
    big = TaskVector({ATTENTION: of_rank(16, 24, 16) + 3 * of_rank(2, 24, 16, seed=2)}, BASE)
    made = save_compact(path, big, 0.5)
    facts = json.loads(read_task_vector_header(path).metadata["tverase.compact"])
    assert facts["error"] == made.error
    assert facts["max_error"] == 0.5
    assert 0 < made.error <= 0.505
    assert facts["ranks"][1] < 16
    assert read_provenance(path)[1].extra["tverase.compact"]


def test_what_factors_would_not_shrink_stays_whole() -> None:
    full = TaskVector({ATTENTION: of_rank(16, 24, 16)}, BASE)
    made = compact_tensors(full, 0.0, "float32")
    assert not made.ranks
    assert made.error == 0
    assert made.kept == 1


def test_progress_stops_it(low: TaskVector) -> None:
    def stop(done: int, total: int, message: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compact_tensors(low, 0.1, progress=stop)


def test_half_a_pair_is_an_error(low: TaskVector) -> None:
    tensors = dict(compact_tensors(low, 0.1, "float32").tensors)
    name = next(key for key in tensors if key.endswith(".lora_down.weight"))
    with pytest.raises(FormatError, match="lacks its partner"):
        multiplied_out({k: v for k, v in tensors.items() if k != name}, "x")
    with pytest.raises(FormatError, match="do not fit"):
        multiplied_out({**tensors, name: tensors[name][:1]}, "x")


STEM = ATTENTION.removesuffix(".weight")
UP, DOWN = f"{STEM}.lora_up.weight", f"{STEM}.lora_down.weight"


@pytest.mark.parametrize(
    ("up", "down"),
    [
        (torch.ones(4, 2), torch.ones(3, 4)),
        (torch.ones(4, 0), torch.ones(0, 4)),
        (torch.ones(4, 2, 3, 3), torch.ones(2, 4, 1, 1)),
        (torch.ones(4, 2, 3, 3), torch.ones(2, 4, 3, 3)),
        (torch.ones(4, 2, 0), torch.ones(2, 4)),
        (torch.ones(4), torch.ones(2, 4)),
        (torch.ones(4, 1), torch.tensor(1.0)),
        (torch.ones(4, 2, dtype=torch.int64), torch.ones(2, 4)),
    ],
)
def test_factors_that_give_no_matrix_are_refused(up: Tensor, down: Tensor) -> None:
    with pytest.raises(FormatError, match=r"^x: the factors of .*to_q' do not fit: expected"):
        multiplied_out({UP: up, DOWN: down}, "x")


@pytest.mark.parametrize("reverse", [False, True])
def test_a_weight_stored_twice_is_refused(reverse: bool) -> None:
    """Else the pair would silently take the place of the difference."""
    tensors = {UP: torch.ones(4, 2), DOWN: torch.ones(2, 4), f"{STEM}.diff": torch.ones(4, 4)}
    if reverse:
        tensors = dict(reversed(tensors.items()))
    with pytest.raises(FormatError, match=r"^x: .*lora_up.*to_q\.diff' are both the delta"):
        multiplied_out(tensors, "x")


@pytest.mark.parametrize("max_error", [-1.0, -1e-9, 1.0, 3.0, float("nan"), float("inf")])
def test_an_error_out_of_range_is_refused(
    tmp_path: Path, low: TaskVector, max_error: float
) -> None:
    with pytest.raises(ConfigError, match="largest error: expected 0 <= e < 1"):
        compact_tensors(low, max_error)
    with pytest.raises(ConfigError, match="largest error"):
        save_compact(tmp_path / "x", low, max_error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "shape", [(1, 1), (16, 16)], ids=["stored whole", "one of them as factors"]
)
def test_names_that_a_file_cannot_hold_are_refused_as_by_the_other_writer(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    clash = {
        "diffusion_model.x": of_rank(1, *shape),
        "diffusion_model.x.weight": of_rank(1, *shape),
    }
    strange = {"vae.weight": of_rank(1, *shape)}
    for deltas, words in ((clash, "two weights"), (strange, "starts with")):
        sentences = set()
        for save, limits in ((save_compact, (0.1,)), (save_task_vector, ())):
            with pytest.raises(FormatError, match=words) as caught:
                save(tmp_path / "x", TaskVector(deltas, BASE), *limits)  # type: ignore[operator]
            sentences.add(str(caught.value))
        assert len(sentences) == 1
    assert not list(tmp_path.iterdir())
    text = {TEXT_KEY: of_rank(1, *shape), "diffusion_model.x": of_rank(1, *shape)}
    assert compact_tensors(TaskVector(text, BASE), 0.1).tensors


def test_a_file_without_factors_does_not_speak_of_them(tmp_path: Path, low: TaskVector) -> None:
    save_compact(tmp_path / "compact", low, 0.3)
    read = load_task_vector(tmp_path / "compact")
    save_task_vector(tmp_path / "full", read)
    assert "tverase.compact" in read.provenance.extra
    assert "tverase.compact" not in read_task_vector_header(tmp_path / "full").metadata
    save_task_vector(tmp_path / "plain", TaskVector(read.deltas, BASE))
    assert (tmp_path / "full").read_bytes() == (tmp_path / "plain").read_bytes()
    save_compact(tmp_path / "again", read, 0.3)
    assert "tverase.compact" in read_task_vector_header(tmp_path / "again").metadata


def test_nothing_to_write() -> None:
    with pytest.raises(FormatError, match="empty"):
        compact_tensors(TaskVector({}, BASE), 0.1)


def test_the_stock_loader_applies_it_as_we_do(
    pack: Any, make_tiny_model: Any, tmp_path: Path
) -> None:
    """Load LoRA at -0.7 equals Apply Negated TV at 0.7 with the same file."""
    import comfy.sd
    import comfy.utils
    from tverase_pack.nodes.host.model.weights import fingerprint, model_shapes

    from host_support import host_steps as steps

    model = make_tiny_model(storage=torch.float32)
    source = torch.Generator().manual_seed(3)
    deltas = {
        key: 0.02 * torch.randn(tuple(shape), generator=source)
        for key, shape in model_shapes(model).items()
    }
    path = tmp_path / "cat.tv.safetensors"
    made = save_compact(path, TaskVector(deltas, fingerprint(model)), 0.6)
    assert len(made.ranks) > 20
    ours = steps.node(
        pack,
        "ApplyNegatedTV",
        model=model,
        task_vector=load_task_vector(path),
        strength=0.7,
        other_weights="refuse",
    )[0]
    stock, _ = comfy.sd.load_lora_for_models(
        model, None, comfy.utils.load_torch_file(str(path)), -0.7, 0
    )
    assert len(stock.patches) == len(deltas)
    one, two = steps.materialised(ours), steps.materialised(stock)
    assert not steps.same(one, steps.weights(model))
    for key, weight in one.items():
        torch.testing.assert_close(two[key], weight, rtol=1e-5, atol=1e-5)
