"""`python -m tverase_core`: what it writes, what it says, how it ends."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from host_support.places import ROOT
from tverase_core.__main__ import main
from tverase_core.files.task_vector_file import load_task_vector, save_task_vector
from tverase_core.model.block_mask import BlockMask
from tverase_core.vector.provenance import Recommendation

KEY = "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"
ATTENTION = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
TEXT = "cond_stage_model.transformer.x"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    base = {KEY: torch.ones(4, 4, 3, 3).half(), ATTENTION: torch.ones(4, 8).half()}
    base[TEXT] = torch.ones(2)
    save_file(base, "base.safetensors", {"who": "base"})
    save_file(base | {KEY: base[KEY] + 2, ATTENTION: base[ATTENTION] + 4}, "tuned.safetensors")
    assert (
        main(["extract", "base.safetensors", "tuned.safetensors", "-o", "cat.tv.safetensors"]) == 0
    )
    return tmp_path


def test_extract_says_what_it_recognised(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vector = load_task_vector("cat.tv.safetensors")
    assert vector.provenance.concepts == ("cat",)
    assert {float(delta.mean()) for delta in vector.deltas.values()} == {2, 4}
    assert main(["inspect", "cat.tv.safetensors", "base.safetensors"]) == 0
    said = capsys.readouterr().out
    assert "task vector of cat; 2 tensors" in said
    assert "base.safetensors: ComfyUI or CompVis checkpoint" in said
    assert "tensors left out: 1 of the text encoder" in said


def test_apply_subtracts_and_leaves_the_rest(folder: Path) -> None:
    words = ["apply", "base.safetensors", "cat.tv.safetensors", "--strength", "0.5", "-o"]
    assert main([*words, "erased.safetensors"]) == 0
    base, erased = load_file("base.safetensors"), load_file("erased.safetensors")
    assert torch.equal(erased[KEY], base[KEY] - 1)
    assert torch.equal(erased[ATTENTION], base[ATTENTION] - 2)
    assert torch.equal(erased[TEXT], base[TEXT])
    with safe_open("erased.safetensors", "pt") as file:
        assert file.metadata() == {"who": "base"}
    assert main([*words, "part.safetensors", "--mask", "kind:cross_attn"]) == 0
    part = load_file("part.safetensors")
    assert torch.equal(part[KEY], base[KEY])
    assert torch.equal(part[ATTENTION], erased[ATTENTION])
    assert (
        main(["apply", "base.safetensors", "cat.tv.safetensors", "--strength", "0", "-o", "0"]) == 0
    )
    assert Path("0").read_bytes() == Path("base.safetensors").read_bytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn], ids=["bf16", "fp8"])
def test_an_edit_that_rounding_swallows_is_refused_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], dtype: torch.dtype
) -> None:
    base = {KEY: torch.ones(4, 4, 3, 3, dtype=dtype), ATTENTION: torch.ones(4, 8, dtype=dtype)}
    save_file(base, "narrow.safetensors")
    words = ["apply", "narrow.safetensors", "cat.tv.safetensors", "-o", "erased.safetensors"]
    words.append("--allow-other-weights")
    assert main([*words, "--strength", "1e-4"]) == 1
    assert "changes no value of narrow.safetensors" in capsys.readouterr().err
    assert not (folder / "erased.safetensors").exists()


def test_an_edit_that_rounding_bends_is_reported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 0.002 the change of 2 rounds to one step of bfloat16 below 1, 0.0039; that of 4 to 0.0078,
    so both are almost as meant; at 0.0015 they are 0.003 and 0.006 and become the same steps."""
    base = {KEY: torch.ones(4, 4, 3, 3).bfloat16(), ATTENTION: torch.ones(4, 8).bfloat16()}
    save_file(base, "narrow.safetensors")
    words = ["apply", "narrow.safetensors", "cat.tv.safetensors", "--allow-other-weights"]
    assert main([*words, "--strength", "0.002", "-o", "a.safetensors"]) == 0
    assert "rounding" not in capsys.readouterr().out
    assert main([*words, "--strength", "0.0015", "-o", "b.safetensors"]) == 0
    said = capsys.readouterr().out
    assert "2 weights changed at strength 0.0015" in said
    assert "rounding to the model's number format changes the edit by 30.2%" in said
    for name in "ab":
        erased = load_file(f"{name}.safetensors")
        assert set(erased[KEY].float().flatten().tolist()) == {1 - 2**-8}
        assert set(erased[ATTENTION].float().flatten().tolist()) == {1 - 2**-7}


def test_apply_at_minus_one_would_be_tuned_so_signs_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["apply", "base.safetensors", "cat.tv.safetensors", "-o", "x.safetensors"]
    assert main([*words, "--strength", "-1"]) == 1
    assert "strength: expected a finite number >= 0" in capsys.readouterr().err
    assert main(words) == 1
    assert "recommends no strength" in capsys.readouterr().err
    assert main(["apply", "tuned.safetensors", *words[2:], "--strength", "1"]) == 1
    assert "different weights" in capsys.readouterr().err
    assert not Path("x.safetensors").exists()


def test_a_recommended_strength_comes_with_its_mask(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    advice = Recommendation(0.5, BlockMask.cross_attention())
    vector = load_task_vector("cat.tv.safetensors")
    save_task_vector("told.tv.safetensors", vector, recommended=advice)
    base = load_file("base.safetensors")
    words = ["apply", "base.safetensors", "told.tv.safetensors", "-o", "out.safetensors"]
    for more, convolution in (
        ([], base[KEY]),
        (["--mask", "full"], base[KEY] - 1),
        (["--strength", "0.5"], base[KEY] - 1),
    ):
        assert main([*words, *more]) == 0
        erased = load_file("out.safetensors")
        assert torch.equal(erased[KEY], convolution)
        assert torch.equal(erased[ATTENTION], base[ATTENTION] - 2)
    capsys.readouterr()
    assert main(["inspect", "told.tv.safetensors"]) == 0
    assert "recommended strength 0.5, mask kind:cross_attn" in capsys.readouterr().out


def test_combine_is_the_weighted_sum(folder: Path) -> None:
    pair = ["cat.tv.safetensors", "cat.tv.safetensors"]
    assert main(["combine", *pair, "--factor", "1", "--factor=-3", "-o", "sum.tv.safetensors"]) == 0
    one, total = load_task_vector(pair[0]), load_task_vector("sum.tv.safetensors")
    assert (one * -2.0).same_deltas(total)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["combine", "cat.tv.safetensors", "-o", "x.safetensors"], "must end in .tv.safetensors"),
        (["combine", "cat.tv.safetensors", "--factor", "0", "-o", "x.tv.safetensors"], "nothing"),
        (["combine", "cat.tv.safetensors", "-o", "cat.tv.safetensors"], "would replace a file"),
        (["apply", "base.safetensors", "cat.tv.safetensors", "--strength=1", "-o."], "is a folder"),
        (["inspect", "nowhere.safetensors"], "no such file"),
        (["extract", "base.safetensors", "base.safetensors", "-o", "x.tv.safetensors"], "exactly"),
    ],
)
def test_refusals_are_sentences_with_exit_code_1(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    before = sorted(folder.iterdir())
    assert main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert sentence in said
    assert sorted(folder.iterdir()) == before


def test_a_console_that_lacks_letters_gets_their_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of Windows, or a file that the output is sent to, knows no Chinese."""
    Path("tuned.safetensors").rename("猫.safetensors")
    told = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(told, "cp1252", write_through=True))
    words = ["extract", "base.safetensors", "猫.safetensors", "-o", "猫.tv.safetensors"]
    assert main(words) == 0
    assert main(["inspect", "猫.tv.safetensors"]) == 0
    assert told.getvalue().count(rb"\u732b") >= 3


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tverase_core", "extract"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "usage: python -m tverase_core extract" in done.stderr
