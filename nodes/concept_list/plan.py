"""What a YAML file asks for: a checkpoint, and concepts to erase from it."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from ...tverase_core.errors import ConfigError, listed
from ...tverase_core.files.metadata import SUFFIX
from ...tverase_core.storage.new_file import is_plain_name
from .yaml_text import read_yaml, shown

SECTIONS = ("pictures", "finetune", "inversion", "search")
IN_LIST = ("checkpoint", "output", "judge", "dtype", "retained", "concepts", *SECTIONS)
IN_CONCEPT = ("name", "prompts", "images", "strength", "retained", *SECTIONS)
DEMO, AUTO, COMBINED = "demo", "auto", "combined"
Dtype = Literal["float32", "bfloat16"]
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class ListedConcept:
    """One concept. stem: its files' name. prompts or images: where its pictures come from.

    strength: None asks for the automatic search. retained: lines as `parse_retained` takes them.
    sections: its widgets by section, the list's and its own.
    """

    name: str
    stem: str
    prompts: tuple[str, ...]
    images: str
    strength: float | None
    retained: tuple[str, ...]
    sections: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ConceptList:
    """checkpoint: a file's name, or "demo". output: a folder's name. judge: "demo", the name of a
    CLIP vision file, or "" for none. dtype: of the files."""

    checkpoint: str
    output: str
    judge: str
    dtype: Dtype
    concepts: tuple[ListedConcept, ...]


def read_list(path: Path) -> ConceptList:
    """Read and check a file's form. Raises ConfigError, one sentence for the first fault; OSError.

    What only the host knows (files, folders, widgets) is checked by `settings_of`.
    """
    given = read_yaml(path)
    where = path.name
    _table(given, IN_LIST, where)
    shared = {section: _section(given, section, where) for section in SECTIONS}
    checkpoint = _text(given, "checkpoint", where)
    entries = given.get("concepts")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(
            f"{where}: `concepts` lists nothing. Write at least one, such as `- name: cat`."
        )
    retained = _texts(given, "retained", where)
    concepts = tuple(
        _concept(entry, f"{where}, concept {number}", shared, retained)
        for number, entry in enumerate(entries, 1)
    )
    _refuse_one_name_twice(concepts, where)
    judge = _text(given, "judge", where, DEMO if checkpoint == DEMO else "")
    automatic = [c.name for c in concepts if c.strength is None]
    if automatic and not judge:
        raise ConfigError(
            f"{where}: strength {AUTO} of {listed(automatic)} needs a judge. Give the name of a "
            "file in models/clip_vision as `judge`, or write strengths as numbers."
        )
    dtype = _text(given, "dtype", where, DTYPES[0])
    if dtype not in DTYPES:
        raise ConfigError(f"{where}: dtype is {dtype!r}; expected {' or '.join(DTYPES)}")
    output = _text(given, "output", where, path.stem)
    return ConceptList(checkpoint, output, judge, cast(Dtype, dtype), concepts)


def unknown_name(name: Any, known: Collection[str], where: str) -> ConfigError:
    """The error for a word that means nothing here, with the nearest that does."""
    near = difflib.get_close_matches(name, known, 1) if isinstance(name, str) else []
    advice = f"Did you mean {near[0]!r}?" if near else f"Known are: {', '.join(known)}."
    return ConfigError(f"{where}: {shown(name)} is unknown. {advice}")


def _concept(
    entry: Any, where: str, shared: Mapping[str, Mapping[str, Any]], retained: tuple[str, ...]
) -> ListedConcept:
    _table(entry, IN_CONCEPT, where)
    name = _text(entry, "name", where)
    where = f"{where} ({name})"
    stem = re.sub(r"[^\w-]+", "_", name).strip("_")
    if not is_plain_name(f"{stem}{SUFFIX}") or stem.casefold() in ("", COMBINED):
        raise ConfigError(f"{where}: no file can be called after {name!r}. Give another name.")
    prompts, images = _texts(entry, "prompts", where), _text(entry, "images", where, "")
    if bool(prompts) == bool(images):
        raise ConfigError(
            f"{where}: write either `prompts`, which the model draws, or `images`, a folder in "
            "ComfyUI's input folder."
        )
    return ListedConcept(
        name,
        stem,
        prompts,
        images,
        _strength(entry.get("strength", AUTO), where),
        _texts(entry, "retained", where) if "retained" in entry else retained,
        {name: {**shared[name], **_section(entry, name, where)} for name in SECTIONS},
    )


def _strength(value: Any, where: str) -> float | None:
    if value == AUTO:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= sys.float_info.max:
        raise ConfigError(
            f"{where}: strength is {shown(value)}; expected a number above 0, or {AUTO}"
        )
    return float(value)


def _refuse_one_name_twice(concepts: tuple[ListedConcept, ...], where: str) -> None:
    first: dict[str, str] = {}
    for concept in concepts:
        stem = concept.stem.casefold()  # some file systems do not tell A from a
        if stem in first:
            raise ConfigError(
                f"{where}: the concepts {first[stem]!r} and {concept.name!r} would share the file "
                f"{concept.stem}. Give each a name of its own."
            )
        first[stem] = concept.name


def _table(value: Any, known: Collection[str], where: str) -> None:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected lines such as `{next(iter(known))}: ...`")
    for name in value:
        if name not in known:
            raise unknown_name(name, known, where)


def _section(table: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    value = table.get(name)
    if value is not None and not isinstance(value, dict):
        raise ConfigError(
            f"{where}: {name}: expected lines such as `steps: 200`, got {shown(value)}"
        )
    return value or {}


def _text(table: Mapping[str, Any], name: str, where: str, default: str | None = None) -> str:
    value = table.get(name, default)
    if value is None:
        raise ConfigError(f"{where}: `{name}` is missing")
    if not isinstance(value, str) or not (value.strip() or value == default):
        raise ConfigError(f"{where}: {name} is {shown(value)}; expected text. Put it in quotes.")
    return value.strip()


def _texts(table: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    value = table.get(name) or []
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(t, str) and t.strip() for t in found):
        raise ConfigError(f"{where}: {name}: expected lines such as `- a dog`, got {shown(value)}")
    return tuple(text.strip() for text in found)
