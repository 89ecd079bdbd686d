"""Inversion set files, and native embeddings made from them.

A set's tensors: `vectors` float32 [n, t, d] for one tower, `vectors.<tower>` each for several;
`losses` float32 [n], `seeds` int64 [n], `valid` uint8 [n], and `hit_rates` float32 [n] when known.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..concept_set import ConceptSet
from ..errors import ConfigError, FormatError, TveraseError
from ..ports import TextEncoder
from ..storage.reproducible import compact_json, read_safetensors, write_safetensors
from ..tensors import tensor_bytes
from .config import InversionConfig
from .inversion_set import InversionSet, encoder_digest

KIND, EMBEDDING_KIND = "inversion_set", "textual_inversion"
SUFFIX = ".inversions.safetensors"
HINT = "Attack artefacts: embeddings that evoke the concept. Use them to test an erasure."
PathLike = str | os.PathLike[str]


def save_inversion_set(
    path: PathLike,
    inversions: InversionSet,
    architecture: str,
    created: str = "",
    beside: Mapping[str, Tensor] | None = None,
) -> str:
    """Write the set in one stroke; equal sets give equal bytes. Returns the content hash.

    architecture: the base's ModelSpec id, as in its fingerprint. created: UTC, or "". beside: other
    tensors for the file, which readers of a set pass over.
    """
    tensors: dict[str, Tensor] = {
        **(beside or {}),
        "losses": inversions.losses,
        "seeds": inversions.seeds,
        "valid": inversions.valid.to(torch.uint8),
    }
    for tower, value in inversions.vectors.items():
        tensors["vectors" if len(inversions.vectors) == 1 else f"vectors.{tower}"] = value
    if inversions.hit_rates is not None:
        tensors["hit_rates"] = inversions.hit_rates
    metadata = {
        **_common(architecture, "textual-inversion-set", inversions.concept, created),
        "tverase.kind": KIND,
        "tverase.towers": compact_json(list(inversions.vectors)),
        "tverase.text_encoder": inversions.text_encoder,
        "tverase.template": inversions.template,
        "tverase.objective": compact_json(dict(inversions.objective)),
        "tverase.notes": compact_json(list(inversions.notes)),
    }
    return write_safetensors(path, tensors, metadata)


def load_inversion_set(path: PathLike) -> InversionSet:
    """Read and check a set. Raises FormatError, FormatVersionError, NonFiniteError, OSError."""
    tensors, metadata = read_safetensors(path, KIND)
    name = Path(path).name
    try:
        towers = json.loads(metadata["tverase.towers"])
        return InversionSet(
            vectors={
                tower: tensors["vectors" if len(towers) == 1 else f"vectors.{tower}"].float()
                for tower in towers
            },
            losses=tensors["losses"],
            seeds=tensors["seeds"],
            valid=tensors["valid"].bool(),
            concept=json.loads(metadata["tverase.concepts"])[0],
            template=metadata["tverase.template"],
            text_encoder=metadata["tverase.text_encoder"],
            hit_rates=tensors.get("hit_rates"),
            objective=json.loads(metadata.get("tverase.objective", "{}")),
            notes=tuple(json.loads(metadata.get("tverase.notes", "[]"))),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, TveraseError):
            raise FormatError(f"{name}: {error}") from error
        raise FormatError(
            f"{name} is not a whole inversion set: {error!r}. Save it again with this pack."
        ) from error


def export_embeddings(
    folder: PathLike, stem: str, inversions: InversionSet, architecture: str, created: str = ""
) -> list[str]:
    """One native embedding per inversion: `embedding_key` [t, d], for `embedding:<name>` in
    prompts.

    Returns the names to type, "<stem>-00" and so on. Raises ConfigError for a stem that the host's
    prompt syntax cannot hold (spaces, commas, brackets, colons) or that leaves the folder.
    """
    if not stem or not all(letter.isalnum() or letter in "-_" for letter in stem):
        raise ConfigError(
            f"Embedding name {stem!r}: use letters, digits, - and _ only, as the prompt syntax "
            "'embedding:name' ends at other signs."
        )
    names = [f"{stem}-{k:02d}" for k in range(len(inversions))]
    for k, name in enumerate(names):
        metadata = {
            **_common(architecture, "textual-inversion", inversions.concept, created),
            "tverase.kind": EMBEDDING_KIND,
            "tverase.text_encoder": inversions.text_encoder,
            "tverase.template": inversions.template,
        }
        tensors = {embedding_key(t): value[k] for t, value in inversions.vectors.items()}
        write_safetensors(Path(folder) / f"{name}.safetensors", tensors, metadata)
    return names


def prompt_of(template: str, name: str) -> str:
    """The template with the embedding in place of {}, so that the host finds where its name ends:
    at a space or a comma."""
    before, _, after = template.partition("{}")
    gap = "" if not after or after[0].isspace() or after[0] == "," else " "
    return f"{before}embedding:{name}{gap}{after}"


def embedding_key(tower: str) -> str:
    """The name under which ComfyUI looks for a tower's vectors in an embedding's file: clip_l,
    clip_g and clip_h; of others their own, as t5xxl, qwen3_4b, qwen25_7b, gemma2_2b or llama."""
    return f"clip_{tower}" if len(tower) == 1 else tower


def job_digest(config: InversionConfig, pictures: ConceptSet, encoder: TextEncoder) -> str:
    """Names a job, so that a state is only resumed by the work it belongs to.

    Of the text encoder its embedding tables count, and what it makes of a text: a LoRA on it leaves
    the tables as they are.
    """
    with torch.no_grad():
        seen = encoder.encode([config.template.replace("{}", pictures.concept)]).tokens
    parts = [
        compact_json(config.recipe()),
        pictures.digest,
        encoder_digest(encoder),
        hashlib.sha256(tensor_bytes(seen.float().cpu())).hexdigest(),
    ]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def _common(architecture: str, suffix: str, concept: str, created: str) -> dict[str, str]:
    entries = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{architecture}/{suffix}",
        "modelspec.title": f"Inversions of {concept}",
        "modelspec.date": created,
        "modelspec.usage_hint": HINT,
        "tverase.concepts": compact_json([concept]),
        "tverase.software": "tverase",
    }
    return {key: value for key, value in entries.items() if value}
