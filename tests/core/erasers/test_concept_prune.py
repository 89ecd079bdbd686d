from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tverase_core.erasers.concept_prune import (
    ColumnNorms,
    PruneConfig,
    PruneResult,
    chosen,
    concept_prune,
    prunable_keys,
)
from tverase_core.errors import ConfigError, EmptyMaskError, NonFiniteError, ShapeMismatchError
from tverase_core.model.layout import detect_layout

KEY = "diffusion_model.input_blocks.1.1.transformer_blocks.0.ff.net.2.weight"
FIRST = KEY.replace("net.2", "net.0.proj")
BIAS = KEY.replace("weight", "bias")


def tensor(*rows: Sequence[float]) -> Tensor:
    return torch.tensor(rows)


def heard(*steps: Sequence[float], key: str = KEY) -> ColumnNorms:
    """One row of length 1 a step: its columns' norms are these numbers."""
    norms = ColumnNorms()
    for step, row in enumerate(steps):
        norms.add(key, step, torch.tensor(row)[None])
    return norms


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pruned(
    weight: Tensor, target: ColumnNorms, base: ColumnNorms, ratio: float = 0.25, steps: int = 1
) -> PruneResult:
    config = PruneConfig(ratio=ratio, steps_used=steps)
    return concept_prune(lambda key: weight, [KEY], target, base, config)


def test_hand_computed_norms() -> None:
    # Rows (3, 4) and (0, 2) are (0.6, 0.8) and (0, 1) at length 1; a row of zeros stays one.
    norms = ColumnNorms()
    norms.add(KEY, 0, tensor([3.0, 4.0], [0.0, 2.0], [0.0, 0.0]))
    assert torch.allclose(norms.of(KEY, 0), torch.tensor([0.6, (0.64 + 1) ** 0.5]))
    assert norms.rows(KEY, 0) == 3


def test_norms_do_not_depend_on_how_the_inputs_are_cut() -> None:
    inputs = random(4, 5, 6, seed=0)
    whole, cut = ColumnNorms(), ColumnNorms()
    whole.add(KEY, 2, inputs)
    for part in inputs:
        cut.add(KEY, 2, part)
        cut.add("another", 2, 7 * part)
    assert torch.allclose(whole.of(KEY, 2), cut.of(KEY, 2))
    assert torch.allclose(cut.of("another", 2), cut.of(KEY, 2))  # a row's length does not count
    assert whole.rows(KEY, 2) == cut.rows(KEY, 2) == 20
    assert whole.steps(KEY) == [2]
    assert whole.steps("another") == []


def test_hand_computed_choice() -> None:
    # Scores with the concept: row 0 (1, 4, 6, 3), row 1 (5, 2, 3, 8); half a row is two weights.
    # Without it row 0 has (2, 2, 2, 3) and row 1 (10, 1, 1, 8), as much or more where row 1 leads.
    weight = tensor([1.0, -2.0, 2.0, 0.75], [5.0, 1.0, -1.0, 2.0])
    target, base = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2.0, 1.0, 1.0, 4.0])
    got = chosen(weight, target, base, 0.5)
    assert got.tolist() == [[False, True, True, False], [False] * 4]
    assert chosen(weight, target, 0 * base, 0.5).sum(1).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("ratio", "width", "count"), [(0.01, 1280, 12), (0.01, 20, 1), (0.07, 100, 7), (1.0, 6, 6)]
)
def test_each_row_gives_its_share_but_one_weight_at_least(
    ratio: float, width: int, count: int
) -> None:
    weight, target = random(3, width, seed=0), random(width, seed=1).abs()
    assert chosen(weight, target, 0 * target, ratio).sum(1).tolist() == [count] * 3


def test_steps_unite_and_later_ones_do_not_count() -> None:
    weight = tensor([1.0, 1.0, 1.0, 1.0])
    target = heard([0.8, 0.6, 0.0, 0.0], [0.6, 0.0, 0.8, 0.0], [0.6, 0.0, 0.0, 0.8])
    base = heard(*[[0.5] * 4] * 3)
    masks = [(pruned(weight, target, base, steps=n).deltas[KEY] != 0).tolist() for n in (1, 2, 3)]
    first, second, third = (mask[0] for mask in masks)
    assert first == [True, False, False, False]
    assert second == [True, False, True, False]
    assert third == [True, False, True, True]


def test_strength_1_prunes_and_strength_half_halves() -> None:
    weight = random(6, 8, seed=0).half()
    made = pruned(weight, heard(random(8, seed=1).abs().tolist()), heard([0.0] * 8))
    delta = made.deltas[KEY]
    assert delta.dtype == torch.float32
    assert delta.device.type == "cpu"
    mask = delta != 0
    assert mask.sum(1).tolist() == [2] * 6
    whole, half = weight.float() - delta, weight.float() - 0.5 * delta
    assert not whole[mask].any()
    assert torch.equal(half[mask], 0.5 * weight.float()[mask])
    assert torch.equal(whole[~mask], weight.float()[~mask])
    assert made.pruned == {KEY: 12}
    assert made.sizes == {KEY: 48}


def test_nothing_is_pruned_when_both_sides_are_alike() -> None:
    side = heard(random(8, seed=1).tolist())
    made = pruned(random(6, 8, seed=0), side, side)
    assert made.deltas == {}
    assert made.pruned == {KEY: 0}


def test_the_report_counts_layers_and_blocks() -> None:
    other = KEY.replace("input_blocks.1.", "middle_block.")
    made = PruneResult({}, {KEY: 3, other: 1}, {KEY: 100, other: 100})
    assert "4 weights: 2.00% of the 2 layers looked at, 0.400% of the model" in made.sentence(1000)
    assert made.by_block(detect_layout([KEY, other])) == {"IN01": (3, 100), "M00": (1, 100)}


def test_equal_inputs_equal_bits_and_the_base_stays() -> None:
    weight = random(6, 8, seed=0)
    before = weight.clone()
    sides = heard(random(8, seed=1).tolist()), heard(random(8, seed=2).tolist())
    first, second = (pruned(weight, *sides) for _ in range(2))
    assert torch.equal(first.deltas[KEY], second.deltas[KEY])
    assert torch.equal(weight, before)


def test_only_second_linear_maps_of_unets_are_named() -> None:
    other = KEY.replace("input_blocks.1.", "output_blocks.10.")
    keys = [other, KEY, FIRST, BIAS, KEY.replace("ff.net.2", "attn2.to_v")]
    assert prunable_keys(keys, detect_layout(keys)) == [KEY, other]
    transformer = ["diffusion_model.transformer_blocks.0.ff.net.2.weight"]
    with pytest.raises(EmptyMaskError, match="layout dit"):
        prunable_keys(transformer, detect_layout(transformer))
    with pytest.raises(EmptyMaskError, match="feed-forward layers of UNets"):
        prunable_keys([FIRST], detect_layout([FIRST]))


def test_progress_and_cancel() -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int, message: str) -> None:
        assert (done, total) == (1, 1)
        raise StopError

    side = heard([0.5] * 8)
    with pytest.raises(StopError):
        concept_prune(lambda key: random(2, 8, seed=0), [KEY], side, side, progress=stop)


def test_bad_input() -> None:
    weight, side = random(2, 4, seed=0), heard([0.5] * 4)
    with pytest.raises(ConfigError, match=r"ratio.*steps_used"):
        PruneConfig(ratio=0.0, steps_used=0)
    for ratio in (float("nan"), 1.5, -1.0):
        with pytest.raises(ConfigError, match="ratio"):
            PruneConfig(ratio=ratio)
    with pytest.raises(ConfigError, match="got none"):
        concept_prune(lambda key: weight, [], side, side)
    with pytest.raises(NonFiniteError, match=f"input of {KEY} .* step 1"):
        heard([float("nan"), 1.0])
    with pytest.raises(NonFiniteError, match="input of"):
        heard([float("inf"), 1.0])
    with pytest.raises(NonFiniteError, match=f"weight {KEY}"):
        pruned(weight * float("nan"), side, side)
    with pytest.raises(ShapeMismatchError, match="width 4, heard were inputs of width 2"):
        pruned(weight, heard([0.6, 0.8]), heard([0.8, 0.6]))
    with pytest.raises(ShapeMismatchError, match="a matrix"):
        pruned(weight[0], side, side)
    with pytest.raises(ShapeMismatchError, match="width 4 before, 2 now"):
        side.add(KEY, 0, tensor([1.0, 2.0]))


def test_both_sides_must_have_heard_the_same() -> None:
    weight, once, twice = random(2, 4, seed=0), heard([0.5] * 4), heard([0.5] * 4, [0.5] * 4)
    assert pruned(weight, once, twice, steps=1).pruned == {KEY: 0}
    for target, base in ((once, twice), (once, ColumnNorms()), (ColumnNorms(), ColumnNorms())):
        with pytest.raises(ConfigError, match=f"{KEY} was heard at"):
            pruned(weight, target, base, steps=2)
    more = heard([0.5] * 4)
    more.add(KEY, 0, tensor([1.0, 0.0, 0.0, 0.0]))
    with pytest.raises(ConfigError, match="as many rows"):
        pruned(weight, once, more)
