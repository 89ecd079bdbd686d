"""Vectors of pruned weights: what two prune is pruned once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tverase_core.files.task_vector_file import load_task_vector, save_task_vector
from tverase_core.model.block_mask import BlockMask
from tverase_core.model.fingerprint import BaseFingerprint
from tverase_core.model.layout import detect_layout
from tverase_core.vector.algebra import orthogonalise, weighted_sum
from tverase_core.vector.provenance import Provenance
from tverase_core.vector.pruned import PRUNED, pruned_of
from tverase_core.vector.task_vector import TaskVector

KEY = "diffusion_model.middle_block.1.transformer_blocks.0.ff.net.2.weight"
OTHER = "diffusion_model.input_blocks.1.1.transformer_blocks.0.ff.net.2.weight"
W = torch.tensor([[1.0, -2.0, 3.0, 4.0]])
BASE = BaseFingerprint("stable-diffusion-v1", "a" * 64, "b" * 64, "float32")


def prunes(*columns: int, content: str = PRUNED, key: str = KEY) -> TaskVector:
    mask = torch.zeros(4)
    mask[list(columns)] = 1
    return TaskVector({key: W * mask}, BASE, Provenance(("cat",), content=content))


def left(vector: TaskVector) -> list[float]:
    kept: Tensor = W - vector.deltas[KEY]
    return kept[0].tolist()


def test_what_both_prune_is_gone_once() -> None:
    first, second = prunes(0, 1), prunes(1, 2)
    assert left(first + second) == left(second + first) == [0, 0, 0, 4]
    assert left(weighted_sum([(first, 1.0), (second, 1.0), (prunes(1), 1.0)])) == [0, 0, 0, 4]
    assert left(first + first) == left(first)


@pytest.mark.parametrize(
    ("first", "second", "right"),
    [(0.5, 1.0, [0.5, 0, 0, 4]), (0.5, 0.25, [0.5, -1, 2.25, 4]), (1.0, -1.0, [0, -2, 6, 4])],
)
def test_of_two_shares_the_larger_counts(first: float, second: float, right: list[float]) -> None:
    assert left(prunes(0, 1) * first + prunes(1, 2) * second) == right


def test_parts_of_it_and_files_are_still_pruned(tmp_path: Path) -> None:
    vector = prunes(0, 1) + prunes(1, key=OTHER)
    layout = detect_layout(vector.deltas)
    for part in (vector * 0.5, vector.masked(BlockMask.full(), layout)):
        assert part.provenance.content == PRUNED
    path = tmp_path / "pruned.tv.safetensors"
    save_task_vector(path, vector)
    assert left(load_task_vector(path) + prunes(1, 2)) == [0, 0, 0, 4]


def test_other_vectors_add_up_as_ever() -> None:
    """Also a pruned one with a trained one, and what is no longer a share of the weights."""
    trained = prunes(1, content="")
    assert left(trained + trained) == [1, 2, 3, 4]
    mixed = prunes(0, 1) + trained
    assert left(mixed) == [0, 2, 3, 4]
    assert mixed.provenance.content == ""
    assert orthogonalise(prunes(0, 1), [prunes(1, 2)]).provenance.content == ""


def test_pruning_takes_what_is_there_now() -> None:
    now = torch.tensor([[1.5, -2.5, 3.5, 0.0]])
    assert torch.equal(
        pruned_of(prunes(0, 3).deltas[KEY], W, now), now * torch.tensor([1, 0, 0, 1])
    )
    half = pruned_of(0.5 * W, W, now)
    assert torch.equal(half, 0.5 * now)
    nothing = pruned_of(torch.zeros(1, 4), torch.zeros(1, 4), now)
    assert torch.equal(nothing, torch.zeros(1, 4))


def of_model(tuned: Tensor) -> TaskVector:
    return TaskVector.difference({KEY: W}, {KEY: tuned}, BASE)


def test_the_difference_to_a_pruned_model_is_one_of_pruned_weights() -> None:
    """Its delta is -W; two that have pruned the same weight are gone once."""
    first, second = (
        of_model(W * torch.tensor([0, 0, 1, 1])),
        of_model(W * torch.tensor([1, 0, 0, 1])),
    )
    assert first.provenance.content == second.provenance.content == PRUNED
    assert left((first + second) * -1.0) == [0, 0, 0, 4]
    assert left(first * -1.0 + prunes(1, 2)) == [0, 0, 0, 4]


def test_a_trained_model_with_zeros_is_none() -> None:
    moved = of_model(torch.tensor([[0.0, -2.0, 3.0, 4.5]]))
    assert moved.provenance.content == ""
    assert of_model(W).provenance.content == ""
