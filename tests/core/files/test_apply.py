"""Edits of a checkpoint on disk; test_command_line.py has what they do to the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.weight_reads import weight_reads_per_edit
from tverase_core.errors import BaseMismatchError, ConfigError, StrengthError
from tverase_core.files.apply import apply_to_file
from tverase_core.files.extract import extract_between_files
from tverase_core.files.task_vector_file import load_task_vector
from tverase_core.model.fingerprint import BaseFingerprint
from tverase_core.vector.task_vector import TaskVector

BLOCK = "model.diffusion_model.input_blocks.1.{}.weight"
CONVOLUTION = BLOCK.format("0.in_layers.2")
ATTENTION = BLOCK.format("1.transformer_blocks.0.attn2.to_k")


def test_what_rounding_takes_is_told_of_the_masked_edit(tmp_path: Path) -> None:
    """A change by 1 is exact in float16, so nothing is lost at any mask, half of it included."""
    base = {CONVOLUTION: torch.ones(4, 4, 3, 3).half(), ATTENTION: torch.ones(4, 8).half()}
    names = ("base", "tuned", "erased", "cat.tv")
    files = [tmp_path / f"{name}.safetensors" for name in names]
    save_file(base, files[0])
    save_file({key: weight + 1 for key, weight in base.items()}, files[1])
    extract_between_files(files[0], files[1], files[3])
    vector = load_task_vector(files[3])
    for mask, kept in (("", 1.0), ("kind:cross_attn", 0.0), ("full, kind:conv=0.5", 0.5)):
        applied = apply_to_file(files[0], vector, 1.0, files[2], mask)
        assert (applied.lost.lost, applied.lost.norm_ratio) == pytest.approx((0.0, 1.0))
        erased = load_file(files[2])
        assert torch.equal(erased[CONVOLUTION], base[CONVOLUTION] - kept)
        assert torch.equal(erased[ATTENTION], base[ATTENTION] - 1)


def test_each_edited_weight_is_read_once() -> None:
    assert weight_reads_per_edit() == 1


def test_an_edit_that_rounds_to_nothing_and_one_of_its_own_base_are_refused(tmp_path: Path) -> None:
    base, tuned, erased, cat = (tmp_path / f"{n}.safetensors" for n in ("b", "t", "e", "cat.tv"))
    save_file({CONVOLUTION: torch.ones(4, 4, 3, 3).half()}, base)
    save_file({CONVOLUTION: torch.ones(4, 4, 3, 3).half() + 1}, tuned)
    extract_between_files(base, tuned, cat)
    before = base.read_bytes()
    with pytest.raises(StrengthError, match=r"changes no value of b\.safetensors"):
        apply_to_file(base, load_task_vector(cat), 1e-5, erased)
    assert not erased.exists()
    with pytest.raises(ConfigError, match="would replace"):
        apply_to_file(base, load_task_vector(cat), 1.0, base)
    assert base.read_bytes() == before


def test_a_vector_of_a_text_encoder_is_refused_with_the_way_that_there_is(tmp_path: Path) -> None:
    base, out = tmp_path / "b.safetensors", tmp_path / "e.safetensors"
    save_file({CONVOLUTION: torch.ones(4, 4, 3, 3)}, base)
    weights = {"text_encoders.clip_l.transformer.text_projection.weight": torch.ones(2, 2)}
    vector = TaskVector(weights, BaseFingerprint.of(weights))
    with pytest.raises(BaseMismatchError, match=r"1 weights of a text encoder .* to CLIP"):
        apply_to_file(base, vector, 1.0, out, allow_other_weights=True)
    assert not out.exists()
