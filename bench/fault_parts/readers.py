"""Every reader of files and texts that may come from strangers, with valid inputs to start from."""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from devtools.in_process import PACK_NAME
from tverase_core.files.checkpoint import CheckpointFile
from tverase_core.files.checkpoint_fingerprint import file_fingerprint
from tverase_core.files.extract import extract_between_files
from tverase_core.files.lora.extract import extract_from_lora, is_lora_file
from tverase_core.files.task_vector_file import load_task_vector, read_provenance
from tverase_core.inversion.files import load_inversion_set
from tverase_core.model.layout import ModelLayout, detect_layout
from tverase_core.model.mask_text import PRESETS, parse_mask
from tverase_core.storage.training_state import load_training_state

from .hostile_files import hostile_file
from .hostile_text import odd_text, odd_value, with_odd_part
from .valid_files import JOB, LIST, MASKS, PROMPTS, UNET_KEYS, VALID_CONFIG, write_valid


@dataclass(frozen=True)
class Reader:
    """prepare: makes the next input and says how many bytes it has. read: what reads it."""

    name: str
    prepare: Callable[[random.Random], int]
    read: Callable[[], object]


def readers(folder: Path) -> list[Reader]:
    """All of them; `folder` gets their files."""
    valid = write_valid(folder)
    base = folder / "base.safetensors"
    made = [
        _file_reader(folder, valid["task vector"], "task vector", _task_vector, ".tv.safetensors"),
        _file_reader(folder, valid["inversion set"], "inversion set", load_inversion_set),
        _file_reader(folder, valid["unfinished work"], "unfinished work", _unfinished),
        _file_reader(folder, valid["checkpoint"], "checkpoint", _checkpoint),
        _file_reader(folder, valid["checkpoint"], "tuned file", partial(_tuned, base)),
        _file_reader(folder, valid["LoRA"], "LoRA", partial(_lora, base)),
        _index_reader(folder, valid["shard"][0]),
        _config_reader(folder, valid["LoRA"][-1], base),
        _mask_reader(),
    ]
    return made + _node_readers(folder)


def _file_reader(
    folder: Path,
    valid: list[bytes],
    name: str,
    read: Callable[[Path], object],
    ending: str = ".safetensors",
) -> Reader:
    path = folder / f"hostile {name}{ending}"

    def prepare(source: random.Random) -> int:
        return path.write_bytes(hostile_file(source, source.choice(valid)))

    return Reader(name, prepare, partial(read, path))


def _task_vector(path: Path) -> None:
    """Header and data, mapped and not; then what an apply asks of its mask."""
    read_provenance(path)
    load_task_vector(path, mapped=True)
    found = load_task_vector(path)
    if found.provenance.recommended is not None:
        mask = found.provenance.recommended.mask
        for key in UNET_KEYS:
            mask.coefficient(key, LAYOUT)


LAYOUT: ModelLayout = detect_layout(UNET_KEYS)
# A few lines that stand for 10**12 words.
_TENFOLD = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 13)]
BOMB = "\n".join([" &a0 [x, x]", *_TENFOLD, "y: *a12"])
YAML_WORDS = ("- ", "&a ", "*a ", "<<: *a", ": ", "|\n", "'", "!!python/object:os.system ")
YAML_WORDS += (BOMB, "[" * 2000, "{" * 2000)


def _unfinished(path: Path) -> None:
    load_training_state(path, JOB)


def _checkpoint(path: Path) -> None:
    with CheckpointFile(path) as opened:
        opened.described()
        opened.key_digest()
        file_fingerprint(opened, opened.prediction or "epsilon")


def _tuned(base: Path, path: Path) -> None:
    extract_between_files(base, path, path.with_name("made.tv.safetensors"), absent="unchanged")


def _lora(base: Path, path: Path) -> None:
    is_lora_file(path)
    extract_from_lora(base, path, path.with_name("made.tv.safetensors"))


def _index_reader(folder: Path, shard: bytes) -> Reader:
    place = folder / "sharded"
    place.mkdir()
    first, index = place / "one.safetensors", place / "model.safetensors.index.json"
    names = list(json.loads(shard[8 : 8 + int.from_bytes(shard[:8], "little")]))
    table = {"weight_map": dict.fromkeys((n for n in names if n != "__metadata__"), first.name)}

    def prepare(source: random.Random) -> int:
        first.write_bytes(hostile_file(source, shard) if source.random() < 0.3 else shard)
        text = json.dumps(with_odd_part(source, table))
        return index.write_bytes(_text_bytes(source, text))

    return Reader("index of shards", prepare, partial(_checkpoint, place))


def _config_reader(folder: Path, lora: bytes, base: Path) -> Reader:
    """A LoRA of PEFT, in order but for its configuration."""
    place = folder / "peft"
    place.mkdir()
    (place / "adapter_model.safetensors").write_bytes(lora)

    def prepare(source: random.Random) -> int:
        made = with_odd_part(source, VALID_CONFIG)
        size = (place / "adapter_config.json").write_bytes(_text_bytes(source, json.dumps(made)))
        return size + len(lora)

    def read() -> None:
        is_lora_file(place)
        extract_from_lora(base, place, folder / "made.tv.safetensors")

    return Reader("LoRA configuration", prepare, read)


def _text_bytes(source: random.Random, text: str) -> bytes:
    """The text, one time in five no longer what its format allows."""
    text = odd_text(source, text) if source.random() < 0.2 else text
    return text.encode("utf-8" if source.random() < 0.95 else "utf-16", "surrogatepass")


def _mask_reader() -> Reader:
    words = (
        *PRESETS,
        *LAYOUT.blocks(),
        "kind:",
        "*",
        "!",
        "=0.5",
        "=",
        "-",
        ",",
        ";",
        "#",
        "/",
        "\n",
    )
    held = [""]

    def prepare(source: random.Random) -> int:
        held[0] = odd_text(source, source.choice(MASKS), words)
        return len(held[0])

    def read() -> None:
        mask = parse_mask(held[0], LAYOUT.blocks())
        for key in UNET_KEYS:
            mask.coefficient(key, LAYOUT)
        again = parse_mask(mask.to_text(), LAYOUT.blocks())
        if again != mask:
            raise AssertionError(f"{mask.to_text()!r} reads as another mask")

    return Reader("mask", prepare, read)


def _node_readers(folder: Path) -> list[Reader]:
    """Those of the nodes, which need ComfyUI and the pack."""
    plan, settings, status = (
        importlib.import_module(f"{PACK_NAME}.nodes.concept_list.{name}")
        for name in ("plan", "list_settings", "status")
    )
    path = folder / "concepts.yaml"

    def prepare_list(source: random.Random) -> int:
        return path.write_bytes(odd_text(source, LIST, YAML_WORDS).encode("utf-8", "surrogatepass"))

    def read_list() -> None:
        found = plan.read_list(path)
        for concept in found.concepts:
            settings.settings_of(concept, found)

    kept = status.ConceptFiles(folder, "cat")
    valid = {"schema": status.SCHEMA, "concept": "cat", "settings": "0" * 16, "strength": 1.0}

    def prepare_status(source: random.Random) -> int:
        return kept.status.write_bytes(
            _text_bytes(source, json.dumps(with_odd_part(source, valid)))
        )

    def read_status() -> None:
        found = kept.read("cat")
        if not all(isinstance(getattr(found, n), str) for n in ("settings", "content", "failed")):
            raise AssertionError(f"a status that holds {found}")

    return [
        Reader("concept list", prepare_list, read_list),
        Reader("status", prepare_status, read_status),
        _input_reader(),
    ]


def _input_reader() -> Reader:
    """What a graph may give widgets, as the host lets it through: numbers are converted and held
    against their limits, which NaN passes; texts are any."""
    held: dict[str, Any] = {}
    checks = _widget_checks()

    def prepare(source: random.Random) -> int:
        name = source.choice(list(checks))
        held["check"], widgets = checks[name]
        held["given"] = {key: _given(source, spec) for key, spec in widgets.items()}
        return len(str(held["given"]))

    return Reader("workflow inputs", prepare, lambda: held["check"](held["given"]))


def _given(source: random.Random, spec: tuple[Any, dict[str, Any]]) -> Any:
    """A value that ComfyUI's `validate_inputs` lets through."""
    kind, options = spec
    if isinstance(kind, list):
        return source.choice(kind or [""])
    if kind == "STRING":
        return odd_text(source, source.choice((options["default"], *PROMPTS)))
    if source.random() < 0.7 and "default" in options:
        return options["default"]
    if kind == "BOOLEAN":
        return source.random() < 0.5
    value = source.choice([options["min"], options["max"], options["default"], odd_value(source)])
    try:
        number = int(value) if kind == "INT" else float(value)
    except (TypeError, ValueError, OverflowError):
        return options["default"]
    outside = number < options["min"] or number > options["max"]
    return options["default"] if outside else number


def _widget_checks() -> Mapping[str, tuple[Callable[[dict[str, Any]], object], dict[str, Any]]]:
    """By node: what looks at its widgets before weights are touched, and the widgets."""
    return importlib.import_module("bench.fault_parts.inputs").checks()
