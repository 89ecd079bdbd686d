"""Task-vector files: equal bytes, strict reading, nothing half-written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch

from host_support.edit_samples import BASE, KEYS, TEXT_KEY, vector, weights
from host_support.places import DATA
from tverase_core.errors import FormatError, FormatVersionError, NonFiniteError, TveraseError
from tverase_core.files.metadata import task_vector_metadata
from tverase_core.files.task_vector_file import (
    load_task_vector,
    read_provenance,
    read_task_vector_header,
    save_task_vector,
)
from tverase_core.model.block_mask import BlockMask
from tverase_core.model.fingerprint import BaseFingerprint
from tverase_core.storage.reproducible import read_safetensors, write_safetensors
from tverase_core.vector.provenance import Parent, Provenance, Recommendation
from tverase_core.vector.task_vector import TaskVector

RELEASED = DATA / "cat.v1_2.tv.safetensors"
WITHOUT_PIECES = DATA / "cat.v1_1.tv.safetensors"
OLDER = DATA / "cat.v1_0.tv.safetensors"  # with content_sha256 in place of sample_sha256
RELEASED_SHA256 = "019c16d3d51251f15be6b2b6f92ae453928a9b5ae9c30a6fd4b8d4f879f7755e"
STORY = Provenance(
    concepts=("cat", "Kätzchen"),
    recipe={"steps": 200, "learning_rate": 1e-5},
    parents=(Parent("a" * 64, 1.5),),
    history=("low rank (rank 4)",),
    created="2026-01-31T12:00:00Z",
    title="cat",
    author="someone",
    license="CC0-1.0",
    tags=("animal", "demo"),
    prediction="epsilon",
    recommended=Recommendation(1.25, BlockMask({"M00": 0.5}, {"norm": 0.0}), "b" * 64),
)


def sample() -> TaskVector:
    """One weight, one bias, one other parameter, one text-encoder weight."""
    deltas = {
        "diffusion_model.input_blocks.0.0.weight": torch.arange(8.0).reshape(2, 1, 2, 2) / 4,
        "diffusion_model.input_blocks.0.0.bias": torch.tensor([1.0, -1.0]),
        "diffusion_model.pos_embed": torch.tensor([[0.5, 0.25]]),
        TEXT_KEY: torch.tensor([[2.0, 3.0]]),
    }
    return TaskVector(deltas, BASE, STORY)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "cat.tv.safetensors"
    save_task_vector(path, sample())
    return path


def with_header(path: Path, change: Any) -> Path:
    """The file with its header table changed; data as it was."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    table = json.loads(raw[8 : 8 + length])
    change(table)
    header = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + length :])
    return path


def with_metadata(path: Path, **entries: str | None) -> Path:
    def change(table: dict[str, Any]) -> None:
        for key, value in entries.items():
            table["__metadata__"].pop(key, None)
            if value is not None:
                table["__metadata__"][key] = value

    return with_header(path, change)


def test_golden_bytes(tmp_path: Path) -> None:
    """The released file comes out again, byte for byte."""
    path = tmp_path / "again.tv.safetensors"
    save_task_vector(path, sample())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == RELEASED_SHA256
    assert path.read_bytes() == RELEASED.read_bytes()


@pytest.mark.parametrize(
    ("file", "base"),
    [(RELEASED, BASE), (WITHOUT_PIECES, BASE), (OLDER, replace(BASE, sample_sha256=None))],
)
def test_released_files_stay_loadable(file: Path, base: BaseFingerprint) -> None:
    loaded = load_task_vector(file)
    assert loaded.same_deltas(sample())
    assert loaded.base == base
    assert loaded.provenance == STORY


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_save_load_save_gives_equal_bytes(tmp_path: Path, dtype: Any) -> None:
    for i, original in enumerate([sample(), vector(1), vector(1) - vector(2)]):
        first, second = tmp_path / f"{i}a", tmp_path / f"{i}b"
        save_task_vector(first, original, dtype=dtype)
        save_task_vector(second, load_task_vector(first), dtype=dtype)
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("mapped", [False, True])
def test_a_loaded_vector_and_its_file_do_not_touch_each_other(saved: Path, mapped: bool) -> None:
    if mapped and os.name == "nt":
        pytest.skip("Windows keeps a mapped file from being replaced")
    raw, loaded = saved.read_bytes(), load_task_vector(saved, mapped=mapped)
    save_task_vector(saved, vector(1))
    assert loaded.same_deltas(sample())
    save_task_vector(saved, sample())
    tensors, _ = read_safetensors(saved, "task_vector", mapped=mapped)
    for tensor in tensors.values():
        tensor.add_(1)
    assert saved.read_bytes() == raw


@pytest.mark.parametrize("padding", range(8))
def test_data_may_begin_anywhere(saved: Path, padding: int) -> None:
    raw = saved.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = raw[8 : 8 + length] + b" " * padding
    saved.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + length :])
    assert load_task_vector(saved, mapped=True).same_deltas(sample())
    assert load_task_vector(saved).same_deltas(sample())


def test_fields_of_a_later_minor_version_are_read_over(saved: Path) -> None:
    base = json.loads(read_task_vector_header(saved).metadata["tverase.base"])
    later = json.dumps({**base, "invented_later": 1})
    with_metadata(saved, **{"tverase.format": "1.9", "tverase.base": later})
    assert load_task_vector(saved).base == BASE


def test_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "x"
    save_task_vector(path, vector(3, STORY))
    loaded = load_task_vector(path)
    assert loaded.same_deltas(vector(3))
    assert loaded.provenance == STORY
    assert read_provenance(path) == (BASE, STORY)


def test_order_of_insertion_does_not_matter(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    deltas = weights(1)
    save_task_vector(one, TaskVector(deltas, BASE))
    save_task_vector(two, TaskVector(dict(reversed(deltas.items())), BASE))
    assert one.read_bytes() == two.read_bytes()


def test_bfloat16_is_half_the_size_and_close(tmp_path: Path) -> None:
    path = tmp_path / "x"
    source = torch.Generator().manual_seed(0)
    tiny = TaskVector({KEYS[0]: torch.randn(64, 64, generator=source) * 1e-7}, BASE)
    save_task_vector(path, tiny, dtype="bfloat16")
    back = load_task_vector(path)
    assert (back - tiny).norm() < 0.004 * tiny.norm()
    assert (
        read_task_vector_header(path).tensors["diffusion_model.input_blocks.0.0.diff"].dtype
        == "BF16"
    )


def test_names_and_content_are_the_stock_ones(saved: Path) -> None:
    """The official library reads the same tensors, and writes the same data section."""
    official = safetensors.torch.load_file(saved)
    assert set(official) == {
        "diffusion_model.input_blocks.0.0.diff",
        "diffusion_model.input_blocks.0.0.diff_b",
        "diffusion_model.pos_embed.diff",
        TEXT_KEY.removesuffix(".weight") + ".diff",
    }
    written = safetensors.torch.save(official)
    data = written[8 + struct.unpack("<Q", written[:8])[0] :]
    stated = read_task_vector_header(saved).metadata["modelspec.hash_sha256"]
    assert stated == f"0x{hashlib.sha256(data).hexdigest()}" == f"0x{sample().digest()}"
    with safetensors.safe_open(saved, "pt") as file:
        assert file.metadata() == read_task_vector_header(saved).metadata


def test_required_metadata(saved: Path) -> None:
    metadata = read_task_vector_header(saved).metadata
    expected = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "sd-unet-4-6/task-vector",
        "modelspec.date": "2026-01-31T12:00:00Z",
        "modelspec.prediction_type": "epsilon",
        "format": "pt",
        "tverase.format": "1.2",
        "tverase.kind": "task_vector",
        "tverase.direction": "toward-concept",
        "tverase.concepts": '["cat","Kätzchen"]',
        "tverase.recipe": '{"learning_rate":1e-05,"steps":200}',
        "tverase.bare_keys": '["diffusion_model.pos_embed"]',
    }
    assert expected.items() <= metadata.items()
    assert "negative strength" in metadata["modelspec.usage_hint"]
    assert "diffusers" in metadata["modelspec.usage_hint"]  # which does not read it
    assert (8 + struct.unpack("<Q", saved.read_bytes()[:8])[0]) % 8 == 0


def test_the_hint_is_true_of_a_lora(tmp_path: Path) -> None:
    """Load LoRA knows no mask, so a strength that was found with one is none for it."""
    path = tmp_path / "x"
    for mask, hint in (
        (BlockMask(), "Recommended strength: -0.75 as a LoRA."),
        (BlockMask.cross_attention(), "Recommended: strength 0.75 with the mask that the file"),
    ):
        save_task_vector(path, sample(), recommended=Recommendation(0.75, mask))
        assert hint in read_task_vector_header(path).metadata["modelspec.usage_hint"]


def test_recommendation_of_the_caller_wins(tmp_path: Path) -> None:
    path = tmp_path / "x"
    chosen = Recommendation(0.75, BlockMask.cross_attention())
    save_task_vector(path, sample(), recommended=chosen)
    assert load_task_vector(path).provenance.recommended == chosen


def test_newer_minor_keeps_what_it_does_not_know(saved: Path, tmp_path: Path) -> None:
    with_metadata(saved, **{"tverase.format": "1.7", "tverase.novelty": "x"})
    loaded = load_task_vector(saved)
    assert loaded.provenance.extra == {"tverase.novelty": "x"}
    save_task_vector(tmp_path / "again", loaded)
    assert read_task_vector_header(tmp_path / "again").metadata["tverase.novelty"] == "x"


def test_newer_major_is_refused(saved: Path) -> None:
    with pytest.raises(FormatVersionError, match=r"2\.0.*Update"):
        load_task_vector(with_metadata(saved, **{"tverase.format": "2.0"}))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"tverase.kind": "inversion_set"}, "expected kind 'task_vector', got 'inversion_set'"),
        ({"tverase.kind": None}, "no tverase.format and tverase.kind"),
        ({"tverase.format": None}, "no tverase.format and tverase.kind"),
        ({"tverase.format": "one"}, "expected e.g."),
        ({"tverase.direction": None}, "never guessed"),
        ({"tverase.direction": "away"}, "never guessed"),
        ({"tverase.base": None}, "tverase.base"),
        ({"tverase.base": '{"architecture":"x"}'}, "tverase.base"),
        ({"tverase.base": '{"architecture":"x","key_digest":"zz"}'}, "64 hex digits"),
        ({"tverase.concepts": None}, "tverase.concepts"),
        ({"tverase.concepts": "cat"}, "expected JSON"),
        ({"tverase.concepts": '"cat"'}, "expected a JSON list"),
        ({"tverase.recipe": '{"a":NaN}'}, "recipe"),
        ({"tverase.parents": "[1]"}, "provenance"),
        ({"tverase.recommended": '{"strength":-1,"mask":{}}'}, "provenance"),
        ({"modelspec.date": "yesterday"}, "created"),
        ({"tverase.pieces_sha256": "1" * 64}, "damaged"),
        ({"tverase.pieces_sha256": None, "modelspec.hash_sha256": "0x" + "1" * 64}, "damaged"),
    ],
)
def test_bad_metadata(saved: Path, entries: dict[str, str | None], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        load_task_vector(with_metadata(saved, **entries))


def test_lora_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    safetensors.torch.save_file({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, path)
    with pytest.raises(FormatError, match="A LoRA or a checkpoint is loaded by ComfyUI's nodes"):
        load_task_vector(path)


def test_every_truncation_is_noticed(saved: Path) -> None:
    raw = saved.read_bytes()
    for length in [*range(0, len(raw), 97), 7, 8, 9, len(raw) - 1]:
        saved.write_bytes(raw[:length])
        with pytest.raises(FormatError):
            load_task_vector(saved)


def test_damage_and_trailing_bytes_are_noticed(saved: Path) -> None:
    raw = saved.read_bytes()
    saved.write_bytes(raw + b"x")
    with pytest.raises(FormatError, match="trailing"):
        load_task_vector(saved)
    saved.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(FormatError, match="damaged"):
        load_task_vector(saved)


NAME = "diffusion_model.pos_embed.diff"


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table[NAME].update(data_offsets=[0, 8]),
        lambda table: table[NAME].update(data_offsets=[16, 8]),
        lambda table: table[NAME].update(data_offsets=[-8, 0]),
        lambda table: table[NAME].update(shape=[1, 3]),
        lambda table: table[NAME].update(shape=[2**62, 2**62]),
        lambda table: table[NAME].update(shape=[1.0, 2]),
        lambda table: table[NAME].update(dtype="F4"),
        lambda table: table[NAME].update(data_offsets=None),
        lambda table: table.pop(NAME),
        lambda table: table.update(extra=3),
        lambda table: table["__metadata__"].update(number=3),
        lambda table: table.update(__metadata__=[]),
        lambda table: table.update({"vae.weight": table.pop(NAME)}),
    ],
)
def test_bad_tables(saved: Path, change: Any) -> None:
    with pytest.raises(FormatError):
        load_task_vector(with_header(saved, change))


def test_doubled_names_and_giant_headers(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for head, body in [
        (None, b'{"a":1,"a":2}'),
        (2**63, b"{}"),
        (1, b"{"),
        (None, b"\xff\xfe"),
        (None, b"[]"),
    ]:
        path.write_bytes(struct.pack("<Q", head or len(body)) + body)
        with pytest.raises(FormatError):
            read_task_vector_header(path)


DEEP = "[" * 3000
ODD: list[Any] = [None, 3, 2**70, 1e999, [], {}, [[0, 8]], "", "\ud800", "²", "9" * 5000, DEEP]
ODD += ["{}", "[3]", "[null]", '[{"a":1}]', f"[{DEEP}", '["\\ud800"]', '{"x":NaN}']
NO_TEXT = (3, [], {}, ["a"] * 64)
NO_NUMBER = ("x", None, [], True, 10**400, float("nan"))


BASE_FIELDS = {"architecture": "a", "key_digest": "1" * 64, "sample_sha256": None, "dtype": None}
PARENT = {"content_sha256": "a" * 64, "coefficient": 1.0}
MASK = BlockMask.full().to_mapping()
CHOSEN = {"strength": 1.0, "mask": MASK}


def odd_structures() -> list[tuple[str, Any]]:
    """(key of the metadata, a value with one wrong part)"""
    found: list[tuple[str, Any]] = []
    for to in NO_TEXT:
        found += [("tverase.base", {**BASE_FIELDS, name: to}) for name in BASE_FIELDS]
        found += [("tverase.base", {**BASE_FIELDS, "file_name": to})]
        found += [("tverase.parents", [{**PARENT, "content_sha256": to}])]
        found += [("tverase.recommended", {**CHOSEN, "mask": to})]
    for to in NO_NUMBER:
        found += [("tverase.parents", [{**PARENT, "coefficient": to}])]
        found += [("tverase.recommended", {**CHOSEN, "strength": to})]
    for name in MASK:
        wrong = [{**MASK, name: to} for to in ("x", [3], {"a": "b"})]
        found += [("tverase.recommended", {**CHOSEN, "mask": mask}) for mask in wrong]
    return found


@pytest.fixture
def refuses(saved: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Is a file with this place changed refused? Else it can be computed with and saved."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # else this takes most of the time
    raw = saved.read_bytes()

    def tried(*place: Any) -> bool:
        *way, last, value = place

        def change(table: dict[str, Any]) -> None:
            for key in way:
                table = table[key]
            table[last] = value

        saved.write_bytes(raw)
        with_header(saved, change)
        try:
            read = load_task_vector(saved)
        except TveraseError:
            return True
        save_task_vector(saved, read)
        save_task_vector(saved, read * 2.0 + read)
        return False

    return tried


def test_whatever_a_header_says_it_is_refused_or_of_use(refuses: Any) -> None:
    places = [(NAME,), ("__metadata__",), ("new",)]
    places += [(NAME, part) for part in ("dtype", "shape", "data_offsets")]
    for place in places:
        assert all(refuses(*place, value) for value in ODD if value != {}), place
    for key in read_task_vector_header(RELEASED).metadata:
        for value in ODD:
            assert refuses("__metadata__", key, value) or isinstance(value, str)


def test_a_structure_with_a_wrong_part_is_refused(refuses: Any) -> None:
    for key, value in (("base", BASE_FIELDS), ("parents", [PARENT]), ("recommended", CHOSEN)):
        assert not refuses("__metadata__", f"tverase.{key}", json.dumps(value))
    for key, value in odd_structures():
        assert refuses("__metadata__", key, json.dumps(value)), (key, value)


def test_sizes_that_no_tensor_has_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for shape in ([0, 2**62, 2**62], [2**63, 0], [0] * 65, [2**62] * 1000):
        entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
        body = json.dumps({"a": entry}).encode()
        path.write_bytes(struct.pack("<Q", len(body)) + body)
        with pytest.raises(FormatError, match="larger than any tensor"):
            read_task_vector_header(path)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"diffusion_model.x.diff": torch.zeros(4, 4), "diffusion_model.x.diff_b": torch.zeros(4)},
        {"diffusion_model.x.diff": torch.zeros(0, 4)},
        {
            "diffusion_model.x.lora_up.weight": torch.zeros(4, 2),
            "diffusion_model.x.lora_down.weight": torch.ones(2, 4),
        },
        {
            "diffusion_model.x.lora_up.weight": torch.zeros(4, 0),
            "diffusion_model.x.lora_down.weight": torch.ones(0, 4),
        },
    ],
    ids=["no tensors", "zeros", "no elements", "a factor of zeros", "factors of rank 0"],
)
def test_a_file_that_changes_nothing_is_refused(
    tmp_path: Path, tensors: dict[str, Any], mapped: bool
) -> None:
    path = tmp_path / "cat.tv.safetensors"
    write_safetensors(path, tensors, task_vector_metadata(BASE, STORY, []))
    with pytest.raises(FormatError, match=r"^cat\.tv\.safetensors: .*expected.*again\.$"):
        load_task_vector(path, mapped=mapped)


def test_a_delta_of_zeros_beside_another_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "cat.tv.safetensors"
    tensors = {"diffusion_model.x.diff": torch.zeros(4), "diffusion_model.y.diff": torch.ones(4)}
    write_safetensors(path, tensors, task_vector_metadata(BASE, STORY, []))
    assert list(load_task_vector(path).deltas) == ["diffusion_model.y.weight"]


def test_nan_in_a_file_is_named(saved: Path) -> None:
    raw = bytearray(saved.read_bytes())
    raw[-4:] = struct.pack("<f", float("nan"))
    saved.write_bytes(raw)
    with pytest.raises(NonFiniteError, match="clip_l"):
        load_task_vector(saved)


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(FormatError, match="float16"):
        save_task_vector(path, sample(), dtype="float16")  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="empty"):
        save_task_vector(path, sample() - sample())
    with pytest.raises(FormatError, match="starts with"):
        save_task_vector(path, TaskVector({"vae.weight": torch.ones(1)}, BASE))
    clash = {"diffusion_model.x": torch.ones(1), "diffusion_model.x.weight": torch.ones(1)}
    with pytest.raises(FormatError, match="two weights"):
        save_task_vector(path, TaskVector(clash, BASE))
    assert list(tmp_path.iterdir()) == []


def test_generic_writer(tmp_path: Path) -> None:
    path = tmp_path / "set.inversions.safetensors"
    tensors = {
        "vectors": torch.ones(2, 3, 4),
        "seeds": torch.tensor([1, 2]),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3.0),
    }
    metadata = {"tverase.kind": "inversion_set", "note": "ü"}
    content = write_safetensors(path, tensors, metadata)
    back, said = read_safetensors(path, "inversion_set")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], tensors[key]) for key in tensors)
    assert metadata.items() <= said.items()
    assert said["sshs_model_hash"] == content
    with pytest.raises(FormatError, match="float16"):
        write_safetensors(path, {"x": torch.ones(1).half()}, metadata)
    with pytest.raises(FormatError, match=r"tverase\.kind"):
        write_safetensors(path, tensors, {})
    with pytest.raises(FormatError, match="text to text"):
        write_safetensors(path, tensors, {**metadata, "n": 1})  # type: ignore[dict-item]
    with pytest.raises(NonFiniteError, match="'x'"):
        write_safetensors(path, {"x": torch.tensor([float("nan")])}, metadata)
    assert read_safetensors(path, "inversion_set")[1] == said


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_disk_error_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "x"
    save_task_vector(path, vector(1))
    before = path.read_bytes()
    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space"):
        save_task_vector(path, vector(2))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_task_vector(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        save_task_vector(tmp_path / "no" / "folder", sample())


def test_no_path_of_the_machine_in_the_file() -> None:
    assert BaseFingerprint(BASE.architecture, BASE.key_digest).file_name is None
    assert b"/home" not in RELEASED.read_bytes()
