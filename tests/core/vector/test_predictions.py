"""Vectors of one base that know, or do not know, what it predicts: files do not say it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tverase_core.errors import BaseMismatchError
from tverase_core.model.fingerprint import BaseFingerprint
from tverase_core.vector.algebra import cosine
from tverase_core.vector.provenance import Provenance
from tverase_core.vector.task_vector import TaskVector

TRAINED = BaseFingerprint("stable-diffusion-v2-768-v", "a" * 64, "b" * 64, "float16")
OF_FILES = dataclasses.replace(TRAINED, architecture="stable-diffusion-v2-512")
KEY = "diffusion_model.out.2.bias"


def vector(base: BaseFingerprint, prediction: str) -> TaskVector:
    return TaskVector({KEY: torch.ones(4)}, base, Provenance(prediction=prediction))


@pytest.mark.parametrize("turned", [False, True])
def test_a_vector_of_files_and_a_trained_one_combine(turned: bool) -> None:
    pair = vector(TRAINED, "v"), vector(OF_FILES, "")
    first, second = reversed(pair) if turned else pair
    both = first + second
    assert both.deltas[KEY].tolist() == [2, 2, 2, 2]
    assert both.base == TRAINED
    assert both.provenance.prediction == "v"
    assert cosine(first, second) == pytest.approx(1)


def test_two_vectors_of_files_combine() -> None:
    both = vector(OF_FILES, "") + vector(OF_FILES, "")
    assert both.base == OF_FILES
    assert both.provenance.prediction == ""


def test_other_values_or_predictions_are_refused() -> None:
    other = dataclasses.replace(OF_FILES, sample_sha256="c" * 64)
    for base, prediction in ((other, ""), (TRAINED, "epsilon")):
        with pytest.raises(BaseMismatchError, match="Only vectors of one base model"):
            vector(TRAINED, "v") + vector(base, prediction)
