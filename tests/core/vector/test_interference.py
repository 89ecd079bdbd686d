"""Interference: known answers on vectors built by hand."""

from __future__ import annotations

import pytest
import torch

from host_support.edit_samples import BASE, LAYOUT, vector
from tverase_core.errors import ConfigError, StrengthError
from tverase_core.vector.interference import interference
from tverase_core.vector.provenance import Provenance
from tverase_core.vector.task_vector import TaskVector

KEY = "diffusion_model.input_blocks.1.0.in_layers.2.bias"
OTHER = "diffusion_model.middle_block.0.in_layers.2.bias"


def made(name: str, **values: list[float]) -> TaskVector:
    keys = {"one": KEY, "two": OTHER}
    deltas = {keys[place]: torch.tensor(v) for place, v in values.items()}
    return TaskVector(deltas, BASE, Provenance(concepts=(name,)))


def test_known_answers() -> None:
    cat, dog = made("cat", one=[3.0, 0.0], two=[4.0]), made("dog", one=[6.0, 0.0])
    found = interference([cat, dog], LAYOUT)
    assert found.names == ("cat", "dog")
    assert found.cosines[0, 1] == pytest.approx(0.6)  # 18 / (5 * 6)
    assert found.damage[0, 1] == pytest.approx(0.5)  # cat holds half a dog
    assert found.damage[1, 0] == pytest.approx(18 / 25)
    assert found.blocks[0, 1] == pytest.approx({"IN01": 1.0, "M00": 0.0})
    assert "erasing cat takes +50.0% of dog" in found.to_text()


def test_strengths_scale_the_row() -> None:
    vectors = [vector(1), vector(2), vector(3)]
    plain = interference(vectors, LAYOUT).damage
    scaled = interference(vectors, LAYOUT, [2.0, 1.0, 0.0]).damage
    assert torch.allclose(scaled[0], 2 * plain[0])
    assert torch.equal(scaled[1], plain[1])
    assert not scaled[2].any()
    assert torch.allclose(plain.diagonal(), torch.ones(3, dtype=torch.float64))


def test_predicted_damage_is_what_the_projection_loses() -> None:
    """Subtract i; the part along j that went is damage * v_j."""
    cat, dog = vector(4), vector(5)
    share = float(interference([cat, dog], LAYOUT).damage[0, 1])
    left = cat - dog * share
    assert float(interference([left, dog], LAYOUT).damage[0, 1]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_a_strength_that_would_not_erase_is_refused(strength: float) -> None:
    with pytest.raises(StrengthError, match="finite number >= 0"):
        interference([vector(1), vector(2)], LAYOUT, [1.0, strength])


@pytest.mark.parametrize("count", [0, 1])
def test_one_vector_interferes_with_nothing(count: int) -> None:
    with pytest.raises(ConfigError, match="two or more"):
        interference([vector(1)] * count, LAYOUT)
    with pytest.raises(ConfigError, match="none empty"):
        interference([vector(1), TaskVector({}, BASE)], LAYOUT)
