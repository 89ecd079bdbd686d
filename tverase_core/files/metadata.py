"""What a task-vector file says about itself; docs/file-format.md is the specification."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..errors import ConfigError, FormatError
from ..model.block_mask import BlockMask
from ..model.fingerprint import BaseFingerprint
from ..storage.reproducible import PIECES_KEY, compact_json
from ..vector.delta_names import is_bare
from ..vector.provenance import Parent, Provenance, Recommendation

KIND = "task_vector"
DIRECTION = "toward-concept"
SUFFIX = ".tv.safetensors"
COMPACT = "tverase.compact"  # what a compact file lost
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
IMPLEMENTATION = "https://github.com/comfyanonymous/ComfyUI"
_ANEW = "Download or save it again."
# sd-scripts' names, so that model browsers sort the file under its base model.
_BROWSER_NAMES = {
    "stable-diffusion-v1": "sd_v1",
    "stable-diffusion-v2-512": "sd_v2",
    "stable-diffusion-v2-768-v": "sd_v2_v",
    "stable-diffusion-xl-v1-base": "sdxl_base_v1-0",
}
# metadata key -> field of Provenance that is plain text
_TEXTS = {
    "modelspec.title": "title",
    "modelspec.author": "author",
    "modelspec.description": "description",
    "modelspec.license": "license",
    "modelspec.date": "created",
    "modelspec.prediction_type": "prediction",
    "tverase.software": "software",
    "tverase.content": "content",
}
_WRITTEN = {
    *_TEXTS,
    "format",
    "modelspec.architecture",
    "modelspec.hash_sha256",
    "modelspec.implementation",
    "modelspec.sai_model_spec",
    "modelspec.tags",
    "modelspec.usage_hint",
    "ss_base_model_version",
    "sshs_model_hash",
    "tverase.bare_keys",
    "tverase.base",
    "tverase.concepts",
    "tverase.direction",
    "tverase.format",
    "tverase.history",
    "tverase.kind",
    "tverase.parents",
    PIECES_KEY,
    "tverase.recipe",
    "tverase.recommended",
}


def task_vector_metadata(
    base: BaseFingerprint,
    provenance: Provenance,
    keys: Sequence[str],
    recommended: Recommendation | None = None,
) -> dict[str, str]:
    """The metadata of a task-vector file; keys: the weights it holds."""
    hint = (
        "Erases in ComfyUI: Load LoRA at a negative strength, or TVErase's nodes. Other loaders, "
        "diffusers' among them, do not read it."
    )
    entries: dict[str, str] = {
        **provenance.extra,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{base.architecture}/task-vector",
        "modelspec.implementation": IMPLEMENTATION,
        "tverase.kind": KIND,
        "tverase.direction": DIRECTION,
        "tverase.concepts": compact_json(list(provenance.concepts)),
        "tverase.base": compact_json(
            {
                "architecture": base.architecture,
                "key_digest": base.key_digest,
                "sample_sha256": base.sample_sha256,
                "dtype": base.dtype,
                "file_name": base.file_name,
                **({"sample_values": base.sample_values} if base.sample_values else {}),
                **({"sample_spread": base.sample_spread} if base.sample_spread else {}),
            }
        ),
        "tverase.recipe": compact_json(dict(provenance.recipe)),
        "tverase.parents": compact_json(
            [
                {"content_sha256": parent.content_sha256, "coefficient": parent.coefficient}
                for parent in provenance.parents
            ]
        ),
        "tverase.history": compact_json(list(provenance.history)),
        "modelspec.tags": ", ".join(provenance.tags),
        "ss_base_model_version": _BROWSER_NAMES.get(base.architecture, base.architecture),
    }
    entries |= {key: getattr(provenance, field) for key, field in _TEXTS.items()}
    bare = sorted(key for key in keys if is_bare(key))
    if bare:
        entries["tverase.bare_keys"] = compact_json(bare)
    if recommended:
        hint += _recommended_use(recommended)
        entries["tverase.recommended"] = compact_json(
            {
                "strength": recommended.strength,
                "mask": recommended.mask.to_mapping(),
                "report": recommended.report,
            }
        )
    entries["modelspec.usage_hint"] = hint
    return {key: value for key, value in entries.items() if value}


def _recommended_use(recommended: Recommendation) -> str:
    if recommended.mask == BlockMask.full():
        return f" Recommended strength: -{recommended.strength:g} as a LoRA."
    return (
        f" Recommended: strength {recommended.strength:g} with the mask that the file holds, in "
        "TVErase's nodes; a LoRA acts on all blocks."
    )


def check_direction(metadata: Mapping[str, str], name: str) -> None:
    """Raises FormatError for a vector of another direction than ours. name: of the file."""
    direction = metadata.get("tverase.direction")
    if direction != DIRECTION:
        raise FormatError(
            f"{name}: tverase.direction: expected {DIRECTION!r}, got {direction!r}; "
            "the sign of a task vector is never guessed"
        )


def base_of(metadata: Mapping[str, str], name: str) -> BaseFingerprint:
    """Who the vector was made from. Raises FormatError."""
    # Other minor versions have other fields: 1.0 a hash of all values, which is not compared.
    given = _json(metadata, "tverase.base", dict, None, name)
    known = [field.name for field in dataclasses.fields(BaseFingerprint)]
    fields = {field: given[field] for field in known if field in given}
    if not all(value is None or isinstance(value, str) for value in fields.values()):
        raise FormatError(f"{name}: tverase.base: expected texts, got {fields}. {_ANEW}")
    try:
        return BaseFingerprint(**fields)
    except (TypeError, ConfigError) as error:
        raise FormatError(f"{name}: tverase.base: {error}") from error


def provenance_of(metadata: Mapping[str, str], name: str) -> Provenance:
    """Missing optional keys are empty; unknown ones are kept for the next save.

    Raises FormatError.
    """
    fields: dict[str, Any] = {field: metadata.get(key, "") for key, field in _TEXTS.items()}
    chosen = _json(metadata, "tverase.recommended", dict, {}, name)
    parents = _json(metadata, "tverase.parents", list, [], name)
    tags = metadata.get("modelspec.tags", "")
    try:
        return Provenance(
            **fields,
            concepts=words_of(metadata, "tverase.concepts", None, name),
            recipe=_json(metadata, "tverase.recipe", dict, {}, name),
            parents=tuple(
                Parent(_text(p["content_sha256"]), _number(p["coefficient"])) for p in parents
            ),
            history=words_of(metadata, "tverase.history", [], name),
            tags=tuple(tags.split(", ")) if tags else (),
            recommended=Recommendation(
                _number(chosen["strength"]),
                BlockMask.from_mapping(chosen["mask"]),
                chosen.get("report"),
            )
            if chosen
            else None,
            extra={key: value for key, value in metadata.items() if key not in _WRITTEN},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{name}: its provenance is not valid: {error}. {_ANEW}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _number(value: Any) -> Any:
    """A number as it stands, that a float can hold."""
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
        raise TypeError(f"expected a number, got {value!r}")
    return value


def words_of(metadata: Mapping[str, str], key: str, default: Any, name: str) -> tuple[str, ...]:
    """A metadata value that is a JSON list of texts. As `_json`."""
    words = _json(metadata, key, list, default, name)
    if not all(isinstance(word, str) for word in words):
        raise FormatError(f"{name}: {key}: expected texts, got {words!r:.80}. {_ANEW}")
    return tuple(words)


def _json(metadata: Mapping[str, str], key: str, form: type, default: Any, name: str) -> Any:
    """A metadata value that is JSON; default None means that it must be there."""
    text = metadata.get(key)
    if text is None and default is not None:
        return default
    shown = f"{text!r:.80}"  # it may be of any length
    try:
        value = json.loads(text or "")
        compact_json(value).encode()  # what cannot be written again: NaN, half a character
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{name}: {key}: expected JSON, got {shown}. {_ANEW}") from error
    if not isinstance(value, form):
        raise FormatError(f"{name}: {key}: expected a JSON {form.__name__}, got {shown}. {_ANEW}")
    return value
