"""Extraction from files equals that of the same weights in memory, whatever form they have."""

from __future__ import annotations

import gzip
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from host_support.places import DATA
from tverase_core.errors import FormatError
from tverase_core.files import extract as file_extraction
from tverase_core.files.apply import apply_to_file
from tverase_core.files.checkpoint import CheckpointFile
from tverase_core.files.extract import extract_between_files
from tverase_core.files.task_vector_file import load_task_vector, save_task_vector
from tverase_core.model.fingerprint import (
    BaseFingerprint,
    architecture_of,
    key_digest,
    sample_sha256,
    sample_values,
)
from tverase_core.storage import content_hash
from tverase_core.vector.provenance import Provenance
from tverase_core.vector.pruned import PRUNED
from tverase_core.vector.task_vector import TaskVector

CHANGED = "diffusion_model.input_blocks.1.0.in_layers.2.weight"
EQUAL = "diffusion_model.out.2.bias"
LATE = "diffusion_model.middle_block.0.in_layers.2.weight"
STORY = Provenance(concepts=("cat",), title="cat task vector", created="2026-01-31T12:00:00Z")


def weights(dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """A few weights under ComfyUI's keys; pieces are made smaller than the largest."""
    seeded = torch.Generator().manual_seed(3)
    shapes = {CHANGED: (8, 4, 3, 3), EQUAL: (4,), LATE: (40, 5), "diffusion_model.odd": (3,)}
    made = {key: torch.randn(shape, generator=seeded).to(dtype) for key, shape in shapes.items()}
    made["diffusion_model.empty.weight"] = torch.zeros(0, 4, dtype=dtype)
    made["diffusion_model.ids"] = torch.arange(3)
    return made


def tuned_of(base: dict[str, Tensor]) -> dict[str, Tensor]:
    tuned = {key: weight.clone() for key, weight in base.items()}
    tuned[CHANGED] = (tuned[CHANGED].float() + 0.25).to(tuned[CHANGED].dtype)
    tuned[LATE][-1, -1] += 1  # all of its other pieces are zero
    tuned["diffusion_model.odd"][1] += 1
    return tuned


def checkpoint(path: Path, model: dict[str, Tensor]) -> Path:
    """A ComfyUI checkpoint, with a text encoder and a VAE."""
    named = {f"model.{key}": weight for key, weight in model.items()}
    others = {"cond_stage_model.transformer.x": torch.ones(2), "first_stage_model.y": torch.ones(2)}
    save_file({**named, **others}, path)
    return path


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_hash, "PIECE", 64)
    monkeypatch.setattr(file_extraction, "FIRST_LOOK", 16)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    base = weights()
    return (
        checkpoint(tmp_path / "base.safetensors", base),
        checkpoint(tmp_path / "tuned.safetensors", tuned_of(base)),
    )


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_file_has_the_bytes_of_the_difference_in_memory(
    tmp_path: Path, stored: torch.dtype, dtype: Any
) -> None:
    base = weights(stored)
    tuned = tuned_of(base)
    first = checkpoint(tmp_path / "base.safetensors", base)
    second = checkpoint(tmp_path / "tuned.safetensors", tuned)
    shapes = {key: w.shape for key, w in base.items() if w.is_floating_point()}
    fingerprint = BaseFingerprint(
        architecture_of(shapes),
        key_digest(shapes),
        sample_sha256(base),
        str(stored).removeprefix("torch."),
        "base.safetensors",
        sample_values(base),
    )
    expected = tmp_path / "memory.tv.safetensors"
    digest = save_task_vector(
        expected, TaskVector.difference(base, tuned, fingerprint, STORY), dtype=dtype
    )
    out = tmp_path / "streamed.tv.safetensors"
    made = extract_between_files(first, second, out, STORY, dtype=dtype)
    assert out.read_bytes() == expected.read_bytes()
    assert (made.kept, made.unchanged, made.content) == (3, 2, digest)
    assert made.file_bytes == out.stat().st_size


@pytest.mark.parametrize("also", ["nothing else", "a trained weight"])
def test_a_pruned_model_is_known_by_its_zeros(tmp_path: Path, also: str) -> None:
    """Also where a weight that is not 0 comes last, in the last piece."""
    base = weights()
    tuned = {key: weight.clone() for key, weight in base.items()}
    tuned[CHANGED][2:5] = 0
    tuned[LATE][-1] = 0
    if also != "nothing else":
        tuned[LATE][-1, -1] = 7.0
    out = tmp_path / "pruned.tv.safetensors"
    first = checkpoint(tmp_path / "base.safetensors", base)
    extract_between_files(first, checkpoint(tmp_path / "tuned.safetensors", tuned), out)
    assert load_task_vector(out).provenance.content == PRUNED * (also == "nothing else")


def test_files_of_unlike_precision_are_told(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    made = extract_between_files(*pair, tmp_path / "one.tv.safetensors")
    assert "precision" not in made.sentence()
    wide = weights(torch.float32)
    coarse = checkpoint(tmp_path / "coarse.safetensors", {k: _halved(w) for k, w in wide.items()})
    fine = checkpoint(tmp_path / "fine.safetensors", wide)
    made = extract_between_files(coarse, fine, tmp_path / "two.tv.safetensors")
    assert "base in bfloat16, tuned in float32" in made.sentence()
    assert "rounding to bfloat16 alone explains 100.0% of" in made.sentence()
    moved = {**wide, LATE: wide[LATE] + 1.0}
    moved = checkpoint(tmp_path / "moved.safetensors", moved)
    made = extract_between_files(coarse, moved, tmp_path / "three.tv.safetensors")
    share = re.search(r"explains (\S+)% of", made.sentence())
    assert share is not None
    assert 0 < float(share[1]) < 2


def _halved(weight: Tensor) -> Tensor:
    return weight.bfloat16() if weight.is_floating_point() else weight


def test_a_negative_zero_in_a_piece_of_zeros_is_kept(tmp_path: Path) -> None:
    base, tuned = weights(torch.float32), weights(torch.float32)
    base[LATE][0, 0], tuned[LATE][0, 0] = 0.0, -0.0
    tuned[LATE][-1, -1] += 1
    out = tmp_path / "out.tv.safetensors"
    extract_between_files(
        checkpoint(tmp_path / "a.safetensors", base),
        checkpoint(tmp_path / "b.safetensors", tuned),
        out,
    )
    delta = load_file(out)[LATE.replace(".weight", ".diff")]
    assert torch.signbit(delta[0, 0])


def renamed(model: dict[str, Tensor]) -> dict[str, Tensor]:
    """Under diffusers' names, by the table that test_checkpoint_names checks against the host."""
    from tverase_core.files.diffusers_names import comfyui_keys

    names = [
        "conv_in.weight",
        "down_blocks.0.resnets.0.conv1.weight",
        "down_blocks.0.downsamplers.0.conv.weight",
        "mid_block.resnets.0.conv1.weight",
    ]
    back = {key: name for name, key in comfyui_keys(names, "").items()}
    return {back[key]: weight for key, weight in model.items()}


UNET = {
    "diffusion_model.input_blocks.0.0.weight": (4, 4, 3, 3),
    "diffusion_model.input_blocks.1.0.in_layers.2.weight": (4, 4, 3, 3),
    "diffusion_model.input_blocks.2.0.op.weight": (4, 4, 3, 3),
    "diffusion_model.middle_block.0.in_layers.2.weight": (4, 4, 3, 3),
}


def unet(seed: int) -> dict[str, Tensor]:
    seeded = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=seeded).half() for key, shape in UNET.items()}


def alone(folder: Path, model: dict[str, Tensor]) -> Path:
    save_file(
        {key.removeprefix("diffusion_model."): w for key, w in model.items()},
        folder / "unet.safetensors",
    )
    return folder / "unet.safetensors"


def single(folder: Path, model: dict[str, Tensor]) -> Path:
    save_file(renamed(model), folder / "one.safetensors")
    return folder / "one.safetensors"


def pipeline(folder: Path, model: dict[str, Tensor]) -> Path:
    place = folder / "pipeline" / "unet"
    place.mkdir(parents=True)
    save_file(renamed(model), place / "diffusion_pytorch_model.fp16.safetensors")
    return folder / "pipeline"


def sharded(folder: Path, model: dict[str, Tensor]) -> Path:
    names = list(renamed(model).items())
    place = folder / "shards"
    place.mkdir()
    where = {}
    for number, part in enumerate((names[:1], names[1:])):
        file = f"diffusion_pytorch_model-0000{number + 1}-of-00002.safetensors"
        save_file(dict(part), place / file)
        where |= {name: file for name, _ in part}
    index = place / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    return place


FORMS: dict[str, tuple[Callable[[Path, dict[str, Tensor]], Path], str]] = {
    "alone": (alone, "diffusion model alone"),
    "single": (single, "diffusers UNet"),
    "pipeline": (pipeline, "diffusers UNet"),
    "sharded": (sharded, "diffusers UNet in 2 files"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_deltas_of_the_checkpoint(tmp_path: Path, form: str) -> None:
    write, kind = FORMS[form]
    base, tuned = unet(1), unet(2)
    native = tmp_path / "native.tv.safetensors"
    first = checkpoint(tmp_path / "base.safetensors", base)
    extract_between_files(first, checkpoint(tmp_path / "tuned.safetensors", tuned), native)
    (tmp_path / "form").mkdir()
    out = tmp_path / "out.tv.safetensors"
    made = extract_between_files(first, write(tmp_path / "form", tuned), out)
    assert out.read_bytes() == native.read_bytes()
    assert kind in made.tuned


@pytest.mark.parametrize(
    "prefix", ["", "diffusion_model.", "model.diffusion_model.", "net.", "model."]
)
def test_a_transformer_is_known_under_every_prefix_that_the_host_takes_off(
    tmp_path: Path, prefix: str
) -> None:
    """Cosmos' and Anima's files say net., AuraFlow's model."""
    name = "blocks.0.self_attn.q_proj.weight"
    base, tuned, erased = (tmp_path / f"{n}.safetensors" for n in ("base", "tuned", "erased"))
    save_file({prefix + name: torch.ones(4, 4), prefix + "x_embedder.y": torch.ones(2)}, base)
    save_file({prefix + name: torch.ones(4, 4) * 3, prefix + "x_embedder.y": torch.ones(2)}, tuned)
    out = tmp_path / "v.tv.safetensors"
    extract_between_files(base, tuned, out)
    vector = load_task_vector(out)
    assert {key: float(d.mean()) for key, d in vector.deltas.items()} == {
        f"diffusion_model.{name}": 2.0
    }
    apply_to_file(base, vector, 0.5, erased)
    assert not load_file(erased)[prefix + name].any()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"], "a text encoder"),
        (["layers.0.attention.to_q.weight"], "diffusers' names"),
        (["layers.0.feed_forward.w1.weight", "context_refiner.0.attention.to_k.weight"], "diff"),
        (["blocks.0.attn1.to_q.weight"], "diffusers' names"),
    ],
)
def test_other_names_of_a_transformers_parts_are_no_model(
    tmp_path: Path, names: list[str], told: str
) -> None:
    """Diffusers' Z-Image and Wan have stacks of the same names, with other weights in them."""
    path = tmp_path / "model.safetensors"
    save_file({name: torch.ones(2, 2) for name in names}, path)
    with pytest.raises(FormatError, match=told):
        CheckpointFile(path)


def test_real_names_are_recognised(tmp_path: Path) -> None:
    listed = DATA / "model_keys.json.gz"
    for family, name in (("sd15", "stable-diffusion-v1"), ("flux_dev", "flux-1-dev")):
        shapes = json.loads(gzip.decompress(listed.read_bytes()))[family]
        path = empty_file(
            tmp_path / f"{family}.safetensors", {f"model.{k}": s for k, s in shapes.items()}
        )
        with CheckpointFile(path) as opened:
            assert name in opened.described()
            assert set(opened.weights) == set(shapes)


def with_header_of(length: int, path: Path) -> Path:
    """A model whose header, unpadded, has this many bytes."""
    table: dict[str, Any] = {
        "model.diffusion_model.x.weight": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}
    }
    table["__metadata__"] = {"note": ""}
    table["__metadata__"]["note"] = "a" * (length - len(json.dumps(table)))
    encoded = json.dumps(table).encode()
    assert len(encoded) == length
    path.write_bytes(struct.pack("<Q", length) + encoded + bytes(2))
    return path


@pytest.mark.parametrize("first", [120, 120 + 400, 0x4B50 - 200])  # the last holds b"PK"
def test_no_header_length_makes_a_model_a_pickle(tmp_path: Path, first: int) -> None:
    for length in range(first, first + 400):
        path = with_header_of(length, tmp_path / "x.safetensors")
        with CheckpointFile(path) as opened:
            assert list(opened.weights) == ["diffusion_model.x.weight"]


def test_what_the_official_writer_writes_is_a_model_whatever_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {"model.diffusion_model.x.weight": torch.ones(1)}
    for length in range(400):
        save_file(tensors, path, {"note": "a" * length})
        with CheckpointFile(path) as opened:
            assert opened.metadata["note"] == "a" * length


def empty_file(path: Path, shapes: dict[str, list[int]]) -> Path:
    """A sparse float16 file: a header and a hole."""
    table, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        table[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    encoded = json.dumps(table).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        file.truncate(8 + len(encoded) + end)
    return path
