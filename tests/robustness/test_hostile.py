"""Files and texts of strangers: refused in a sentence, quickly, in little memory."""

from __future__ import annotations

import json
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bench.fault_parts import hostile, valid_files
from bench.fault_parts.give_back import GiveBack
from bench.fault_parts.watch import Watch, fault_of
from bench.peak_memory import FORGET
from tverase_core.errors import LONGEST, LONGEST_WORD, ConfigError, FormatError, TveraseError
from tverase_core.files.compact import MOST_TIMES
from tverase_core.files.lora.extract import extract_from_lora
from tverase_core.files.task_vector_file import load_task_vector
from tverase_core.model.block_mask import BlockMask
from tverase_core.patterns import check_pattern

INPUTS = 2000


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In main memory where there is such a folder: thousands of files are written."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as made:
        yield Path(made)


def _never() -> None:
    """Reads nothing."""


def _endless() -> None:
    while True:
        pass


def _raises(error: Exception) -> Callable[[], None]:
    def read() -> None:
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "told"),
    [
        (_never, None),
        (_raises(TveraseError("It is not.")), None),
        (_raises(KeyError("x")), "KeyError at"),
        (_raises(TveraseError("")), "a sentence of 0"),
        (_raises(TveraseError("in secret-place")), "path of the machine"),
        (lambda: os.listdir("/etc"), "outside: os.listdir /etc"),
        (lambda: bytearray(64 << 20), "MiB for a file of 10 bytes"),
        (_endless, "no end"),
    ],
)
def test_the_watch_sees(
    read: Callable[[], object], told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if told == "MiB for a file of 10 bytes":
        if not FORGET.exists():
            pytest.skip("this system does not tell the most memory since a moment")
        # Else they come from what earlier tests left free and resident, and nothing grows.
        GiveBack().give_back(0)
    monkeypatch.setattr("bench.fault_parts.watch.HANGS_S", 0.3)
    found = fault_of(
        Watch([tmp_path]), read, 10, lambda error: isinstance(error, TveraseError), "secret-place"
    )
    assert (found is None) == (told is None)
    assert told is None or told in str(found)


def test_a_sentence_has_an_end_and_can_be_printed() -> None:
    said = str(FormatError(f"x.safetensors: tensor {'a' * 9999} \ud800 is odd. Save it again."))
    assert max(map(len, said.split())) == LONGEST_WORD + 3
    assert said.endswith("\\ud800 is odd. Save it again.")
    said.encode()
    assert len(str(ConfigError("a b " * LONGEST))) == LONGEST


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(.|.)*!",
        "(.)*?!",
        "(x){2,}!",
        ".*.*.*!",
        "[^!]+.+.+!",
        r"\w*\w*\w*!",
        "(.|.)" * 20 + "!",
        ".?" * 30 + "!",
        "a" * 501,
        "[",
        "a{2}{2}",
        "(" * 5000 + ")" * 5000,
    ],
)
def test_a_pattern_without_end_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"too many ways|not a regular|longer than"):
        check_pattern(pattern)
    with pytest.raises(ConfigError, match="mask: /"):
        BlockMask(patterns=((pattern, 1.0),))


@pytest.mark.parametrize(
    "pattern",
    [
        r"/?\.attn2\.to_[kv]\.",
        r".*attn2.*to_[kv]",
        r"blocks\.\d+\.1\.transformer_blocks\.\d+\.attn\d",
        r"(input|output|middle)_blocks?\.(1|2|3)\.",
        r"(?:double|single)_blocks\.\d{1,2}\.(?P<part>img|txt)_attn",
        r"[^.]+\.[^.]+$",
        r"to_out\.0\.(weight|bias)$",
        r"^(?!.*norm).*weight",
        r"x{3}y{3}.{3}.{3}.{3}",
    ],
)
def test_a_pattern_that_people_write_is_taken(pattern: str) -> None:
    check_pattern(pattern)


def test_factors_of_no_model_are_refused_before_they_are_multiplied(tmp_path: Path) -> None:
    """40,000 values that stand for 400 million."""
    path = tmp_path / "bomb.tv.safetensors"
    raw = valid_files.write_valid(tmp_path)["task vector"][2]
    table = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    kept = {k: v for k, v in table["__metadata__"].items() if "sha256" not in k and "hash" not in k}
    stem = "diffusion_model.input_blocks.0.0"
    big = MOST_TIMES * 3
    factors = {
        f"{stem}.lora_up.weight": torch.zeros(big, 1),
        f"{stem}.lora_down.weight": torch.zeros(1, big),
    }
    save_file(factors, path, kept)
    with pytest.raises(FormatError, match=r"multiply out to 603,979,776.*No model has such"):
        load_task_vector(path)
    small = {k: v[: big // 4, : big // 4].contiguous() + 1 for k, v in factors.items()}
    save_file(small, path, kept)
    assert load_task_vector(path).deltas[f"{stem}.weight"].shape == (big // 4, big // 4)


def test_a_middle_factor_is_held_against_the_weight_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valid_files.write_valid(tmp_path)
    module = "lora_unet_input_blocks_1_0_in_layers_2"
    tensors = {
        f"{module}.lora_up.weight": torch.ones(4, 1, 1, 1),
        f"{module}.lora_down.weight": torch.ones(1, 9999, 1, 1),
        f"{module}.lora_mid.weight": torch.ones(1, 1, 99, 99),
    }
    save_file(tensors, tmp_path / "lora.safetensors")
    monkeypatch.setattr(torch, "einsum", _raises(MemoryError("98 million values")))
    with pytest.raises(TveraseError, match="do not give a weight of shape"):
        extract_from_lora(
            tmp_path / "base.safetensors",
            tmp_path / "lora.safetensors",
            tmp_path / "out.tv.safetensors",
        )


def test_yaml_that_stands_for_more_than_any_memory(pack: Any, tmp_path: Path) -> None:
    from tverase_pack.nodes.concept_list.plan import read_list

    tenfold = [f"- &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 7)]
    path = tmp_path / "list.yaml"
    for place in ("finetune", "retained", "checkpoint"):
        text = "\n".join([f"{place}:", "- &a0 [x, x]", *tenfold, "concepts: [{name: cat}]"])
        path.write_text(f"{text}\ncheckpoint: demo" * (place != "checkpoint") or text, "utf-8")
        with pytest.raises(ConfigError, match=place) as refused:
            read_list(path)
        assert len(str(refused.value)) < 400
    for text in ("- " * 2000 + "x", f"checkpoint: {'9' * 5000}", "\x00", "{" * 2000):
        path.write_text(text, "utf-8")
        with pytest.raises(ConfigError, match=re.escape("list.yaml")):
            read_list(path)


ODD_NAMES = ["a\x00b", "\ud800", "x" * 5000, "a/" * 2000 + "b", "é" * 200, "../x", "a/../../x", ""]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_that_no_file_can_have(name: str, pack: Any, comfy_host: Any) -> None:
    from tverase_pack.nodes.host.app import image_folders, paths, stock_loaders

    for kind in ("task_vectors", "inversion_sets"):
        with pytest.raises(FileNotFoundError, match="No "):
            paths.find_file(kind, name)
        if name:
            with pytest.raises(ConfigError, match="Write a"):
                paths.new_file(kind, name)
    with pytest.raises(FileNotFoundError, match="No model file"):
        paths.find_model_file(f"checkpoints/{name}")
    with pytest.raises(FileNotFoundError, match="No folder"):
        image_folders.find_image_folder(name)
    with pytest.raises(ConfigError, match="there is no"):
        stock_loaders.require_file("checkpoints", name, "checkpoint")
    if name:
        with pytest.raises(ConfigError, match="Write a"):
            paths.list_folder("task_vectors", name)


@pytest.mark.parametrize("value", [None, 1, 0.5, [], {"a": 1}, True])
def test_a_status_of_odd_values_is_none(value: Any, pack: Any, tmp_path: Path) -> None:
    from tverase_pack.nodes.concept_list.status import SCHEMA, ConceptFiles, Status

    files = ConceptFiles(tmp_path, "cat")
    written = {"schema": SCHEMA, "concept": "cat", "settings": "0" * 16, "strength": 1.5}
    files.status.write_text(json.dumps(written), "utf-8")
    assert files.read("cat") == Status("cat", settings="0" * 16, strength=1.5)
    for name in ("settings", "content", "failed"):
        files.status.write_text(json.dumps({**written, name: value}), "utf-8")
        assert files.read("cat") == Status("cat")
    files.status.write_text("[" * sys.getrecursionlimit() * 50, "utf-8")
    assert files.read("cat") == Status("cat")


def test_no_reader_is_harmed(pack: Any, comfy_host: Any, folder: Path) -> None:
    found = hostile.run(folder, INPUTS, 7, comfy_host.base)
    assert not found.faults
    assert sum(found.inputs.values()) == INPUTS
    # Neither is everything refused at the door, nor is everything taken.
    shares = {name: found.refused[name] / count for name, count in found.inputs.items()}
    assert all(0 < share < 1 for name, share in shares.items() if name != "status"), shares
