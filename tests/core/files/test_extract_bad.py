"""Bad input to the extraction from files: a sentence that names file and key, and no new file."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tverase_core.errors import (
    BaseMismatchError,
    ConfigError,
    FormatError,
    KeyMismatchError,
    NonFiniteError,
    ShapeMismatchError,
    TveraseError,
)
from tverase_core.files.checkpoint import CheckpointFile
from tverase_core.files.extract import extract_between_files
from tverase_core.storage import new_file

WEIGHT = "model.diffusion_model.input_blocks.0.0.weight"
OTHER = "model.diffusion_model.out.2.bias"


def model(shift: float = 0.0) -> dict[str, Tensor]:
    return {WEIGHT: torch.ones(4, 4, 3, 3) + shift, OTHER: torch.zeros(4)}


def written(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file(tensors, path, metadata)
    return path


def raw(path: Path, header: str, data: bytes) -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + data)
    return path


def truncated(path: Path) -> None:
    path.write_bytes(written(path, model(1)).read_bytes()[:-5])


def cut_header(path: Path) -> None:
    path.write_bytes(written(path, model(1)).read_bytes()[:20])


def lying_offsets(path: Path) -> None:
    entry = {"dtype": "F16", "shape": [4], "data_offsets": [4, 12]}
    raw(path, json.dumps({OTHER: entry}), bytes(12))


def unknown_dtype(path: Path) -> None:
    entry = {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}
    raw(path, json.dumps({OTHER: entry}), bytes(2))


def duplicate(path: Path) -> None:
    entry = '{"dtype":"F16","shape":[4],"data_offsets":[0,8]}'
    raw(path, f'{{"{OTHER}":{entry},"{OTHER}":{entry}}}', bytes(8))


def two_names(path: Path) -> None:
    names = (
        "add_embedding.linear_1.weight",
        "class_embedding.linear_1.weight",
        "conv_in.weight",
        "mid_block.resnets.0.conv1.bias",
    )
    written(path, {name: torch.ones(4, 4) for name in names})


def quantised(path: Path) -> None:
    written(path, model() | {WEIGHT: torch.ones(4, 18, dtype=torch.uint8)})


def scaled(path: Path) -> None:
    written(path, model() | {"model.diffusion_model.scaled_fp8": torch.ones(1)})


def pickled(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + bytes(100))


def bottomless(path: Path) -> None:
    raw(path, '{"a":' + "[" * 100_000, b"")


def spaced(path: Path) -> None:
    raw(path, " {}", b"")


def half_a_character(path: Path) -> None:
    raw(path, '{"\\ud800":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}}', bytes(8))


def beyond_torch(path: Path) -> None:
    entry = {"dtype": "F16", "shape": [0, 2**40, 2**40], "data_offsets": [0, 0]}
    raw(path, json.dumps({OTHER: entry}), b"")


def lora(path: Path) -> None:
    written(
        path, {"lora_unet_x.lora_down.weight": torch.ones(2), "lora_unet_x.alpha": torch.ones(1)}
    )


def text_encoder(path: Path) -> None:
    written(path, {"text_model.embeddings.position_ids.weight": torch.ones(2)})


BROKEN: dict[Callable[[Path], None], str] = {
    truncated: "is truncated",
    cut_header: "truncated or no safetensors",
    lying_offsets: rf"{OTHER}.*expected bytes 0 to 8, got 4 to 12",
    unknown_dtype: rf"{OTHER}.*stored as F4, which cannot be read here",
    duplicate: rf"{OTHER}.*occurs twice",
    two_names: r"add_embedding.*class_embedding.*are both the weight",
    quantised: rf"{WEIGHT}.*quantised",
    scaled: "scaled_fp8.*quantised",
    pickled: "is a pickle.*Save Checkpoint",
    bottomless: "its header is not valid.*recursion.*Download",
    spaced: "its header is not valid.*begin with",
    half_a_character: "its header is not valid.*surrogates",
    beyond_torch: rf"{OTHER}.*larger than any tensor",
    lora: "lora_unet_x.*a LoRA",
    text_encoder: "holds no diffusion model, only tensors of: text encoder",
}


def refused(base: Path, tuned: Path, kind: type[Exception], sentence: str, **more: Any) -> None:
    folder = base.parent
    before = sorted(folder.iterdir())
    with pytest.raises(kind, match=sentence):
        extract_between_files(base, tuned, folder / "out.tv.safetensors", **more)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("spoil", BROKEN, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("place", ["base", "tuned"])
def test_a_file_that_is_no_model_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[Path], None], place: str
) -> None:
    bad = tmp_path / f"bad_{place}.safetensors"
    spoil(bad)
    good = written(tmp_path / "good.safetensors", model())
    pair = (bad, good) if place == "base" else (good, bad)
    refused(*pair, FormatError, rf"bad_{place}.*{BROKEN[spoil]}")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt", "x"])
def test_what_torch_saves_is_refused_under_every_name(
    tmp_path: Path, name: str, zipped: bool
) -> None:
    torch.save({"state_dict": model()}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    with pytest.raises(FormatError, match=f"{name}: is a pickle"):
        CheckpointFile(tmp_path / name)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol_are_refused(tmp_path: Path, protocol: int) -> None:
    values: list[Any] = [{}, {"a": 1}, "a" * 300, b"{" * 300, list(range(300)), io.BytesIO(b"{")]
    for value in values:
        (tmp_path / "x.safetensors").write_bytes(pickle.dumps(value, protocol) + bytes(200))
        with pytest.raises(FormatError, match="is a pickle"):
            CheckpointFile(tmp_path / "x.safetensors")


def test_a_model_cut_within_its_header_is_no_pickle(tmp_path: Path) -> None:
    """640 bytes: the length begins with the bytes of a pickle."""
    path = raw(tmp_path / "x.safetensors", "{" + " " * 639, b"")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FormatError, match="truncated"):
        CheckpointFile(path)


DIFFERENT: dict[str, tuple[dict[str, Tensor], type[Exception], str]] = {
    "other_names": (
        {"model.diffusion_model.img_in.weight": torch.ones(4)},
        KeyMismatchError,
        "img",
    ),
    "other_shape": (model() | {OTHER: torch.ones(5)}, ShapeMismatchError, r"out\.2\.bias"),
    "other_kind": (
        model() | {OTHER: torch.ones(4, dtype=torch.int64)},
        FormatError,
        r"out\.2\.bias.*int64 in b\.safetensors",
    ),
    "nan": (model() | {OTHER: torch.full((4,), torch.nan)}, NonFiniteError, r"out\.2\.bias"),
    "infinity": (model() | {OTHER: torch.full((4,), torch.inf)}, NonFiniteError, r"out\.2\.bias"),
    "equal": (model(), BaseMismatchError, "exactly the weights"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_models_that_do_not_fit_are_refused(tmp_path: Path, case: str) -> None:
    tensors, kind, sentence = DIFFERENT[case]
    base = written(tmp_path / "a.safetensors", model())
    refused(base, written(tmp_path / "b.safetensors", tensors), kind, sentence)


@pytest.mark.parametrize(
    ("of_tuned", "of_base"),
    [
        ({"modelspec.hash_sha256": "0x" + "ab" * 32}, {"tverase.parents": "ab" * 32}),
        ({}, {"modelspec.merged_from": "base, other"}),
    ],
)
def test_swapped_models_are_refused_when_metadata_tell(
    tmp_path: Path, of_tuned: dict[str, str], of_base: dict[str, str]
) -> None:
    """Here the file called `base` is given as the tuned one."""
    tuned = written(tmp_path / "tuned.safetensors", model(1), of_base)
    base = written(tmp_path / "base.safetensors", model(), of_tuned)
    refused(tuned, base, BaseMismatchError, "are swapped")
    extract_between_files(base, tuned, tmp_path / "out.tv.safetensors")


def test_a_shard_that_lacks_a_tensor_is_named(tmp_path: Path) -> None:
    written(tmp_path / "x-00001-of-00001.safetensors", {"conv_in.weight": torch.ones(1)})
    index = tmp_path / "x.safetensors.index.json"
    where = dict.fromkeys(("conv_in.weight", "conv_in.bias"), "x-00001-of-00001.safetensors")
    index.write_text(json.dumps({"weight_map": where}))
    with pytest.raises(FormatError, match=r"x-00001.*lacks the tensor 'conv_in\.bias'"):
        CheckpointFile(index)
    index.write_text(json.dumps({"weight_map": {"conv_in.weight": "../x.safetensors"}}))
    with pytest.raises(FormatError, match=r"names of safetensors files beside it, got \.\./x"):
        CheckpointFile(index)
    index.write_text("[" * 100_000)
    with pytest.raises(FormatError, match=r"x\.safetensors\.index\.json: is no index"):
        CheckpointFile(index)


@pytest.mark.parametrize("cut", [False, True])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, cut: bool) -> None:
    base = written(tmp_path / "a.safetensors", model())
    tuned = written(tmp_path / "b.safetensors", model(1))
    calls = []

    def meddle(done: int, total: int, message: str) -> None:
        calls.append(message)
        if len(calls) == 3:  # the comparison is done
            if cut:
                os.truncate(tuned, tuned.stat().st_size // 2)
            else:
                os.utime(tuned, ns=(1, 1))

    # Cut short, it may also be seen as changed first: both are true.
    told = "(ends within 'model|changed while)" if cut else "changed while it was read"
    sentence = r"b\.safetensors: " + told
    refused(base, tuned, FormatError, sentence, progress=meddle)


def test_a_cancelled_extraction_leaves_the_old_file(tmp_path: Path) -> None:
    base = written(tmp_path / "a.safetensors", model())
    tuned = written(tmp_path / "b.safetensors", model(1))
    out = tmp_path / "out.tv.safetensors"
    out.write_bytes(b"old")

    def cancel(done: int, total: int, message: str) -> None:
        if message.startswith("subtracting"):
            raise KeyboardInterrupt("stop")

    refused(base, tuned, KeyboardInterrupt, "stop", progress=cancel)
    assert out.read_bytes() == b"old"


def test_a_disk_without_room_is_seen_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(new_file.shutil, "disk_usage", lambda _: usage(1000))
    base = written(tmp_path / "a.safetensors", model())
    tuned = written(tmp_path / "b.safetensors", model(1))
    refused(base, tuned, OSError, r"out\.tv\.safetensors needs .* MB free")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are of Unix")
def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    import resource

    base = written(tmp_path / "a.safetensors", model())
    tuned = written(tmp_path / "b.safetensors", model(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        refused(base, tuned, OSError, r"while out\.tv\.safetensors was written")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_result_never_replaces_a_model(tmp_path: Path) -> None:
    base = written(tmp_path / "a.safetensors", model())
    tuned = written(tmp_path / "b.safetensors", model(1))
    with pytest.raises(ConfigError, match=r"b\.safetensors: would replace"):
        extract_between_files(base, tuned, tuned)


@pytest.mark.parametrize("shape", [(), (4,)])
@pytest.mark.parametrize("name", ["input_blocks.0.0", "middle_block.1.attn2.to_k"])
def test_a_weight_of_too_few_axes_names_no_architecture(
    tmp_path: Path, name: str, shape: tuple[int, ...]
) -> None:
    shapes = {"input_blocks.0.0": (320, 4, 3, 3), "middle_block.1.attn2.to_k": (8, 768)}
    tensors = {
        f"model.diffusion_model.{key}.weight": torch.zeros(shape if key == name else full)
        for key, full in shapes.items()
    }
    with CheckpointFile(written(tmp_path / "x.safetensors", tensors)) as opened:
        assert "unknown" in opened.described()


def test_every_refusal_is_one_of_ours(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        CheckpointFile(tmp_path / "missing.safetensors")
    with pytest.raises(TveraseError, match="is no diffusers model"):
        CheckpointFile(tmp_path)
