"""A listed concept's settings in full: every widget of the nodes that will run, all checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...tverase_core.errors import ConfigError
from ...tverase_core.storage.reproducible import compact_json
from ..concept.from_prompt import ConceptSetFromPrompt
from ..concept.image_folder import folder_of
from ..finetune.finetune_settings import finetune_config
from ..finetune.node import ConceptFinetune
from ..inversion.inversion_settings import inversion_config
from ..inversion.node import DiverseInversionNode
from ..shared.prompt_lines import PROMPT_MARK, caption_lines
from ..shared.retained_prompts import RetainedPrompts, parse_retained
from ..strength.node import AutoStrength
from ..strength.strength_settings import search_config
from .plan import AUTO, ConceptList, ListedConcept
from .widgets import widget_values

# Widgets that change how nodes run, not what they give.
_SAME_RESULT = ("gradient_checkpointing", "checkpoint_every", "finished_work")
# The widgets that say how to draw, by what they are called in `pictures`.
_DRAWING = {
    "sampling_steps": "steps",
    "pictures_at_once": "batch_size",
    **{n: n for n in ("cfg", "width", "height", "sampler_name", "scheduler")},
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Widgets by node, and two digests that change with whatever changes vector or strength.

    inversion, search: empty where the strength is given. retained: None where there is nothing.
    """

    concept: ListedConcept
    pictures: Mapping[str, Any]
    finetune: Mapping[str, Any]
    inversion: Mapping[str, Any]
    search: Mapping[str, Any]
    retained: RetainedPrompts | None
    vector_digest: str
    strength_digest: str


def settings_of(concept: ListedConcept, plan: ConceptList) -> Settings:
    """Raises ConfigError, FileNotFoundError; no weights are read."""
    where, sections = f"concept {concept.name!r}", concept.sections
    pictures = widget_values(
        ConceptSetFromPrompt, sections["pictures"], f"{where}, pictures", ("prompt", "concept")
    )
    _check_texts(pictures, concept, where)
    finetune = widget_values(ConceptFinetune, sections["finetune"], f"{where}, finetune")
    finetune_config(finetune)
    if finetune["guidance"] and not (concept.prompts or pictures["caption"].strip()):
        raise ConfigError(
            f"{where}: guidance needs a text that names the concept, and pictures from a folder "
            "have none. Write a `caption`, or set guidance to 0."
        )
    retained = _retained(concept, where)
    drawing = {name: pictures[own] for name, own in _DRAWING.items()}
    inversion: dict[str, Any] = {}
    search: dict[str, Any] = {}
    if concept.strength is None:
        if retained is None:
            raise ConfigError(
                f"{where}: strength {AUTO} needs `retained`, prompts of what must stay."
            )
        first = {"prompt": concept.prompts[0] if concept.prompts else "", **drawing}
        inversion = widget_values(
            DiverseInversionNode, sections["inversion"], f"{where}, inversion", (), first
        )
        inversion_config(inversion)
        search = widget_values(
            AutoStrength, sections["search"], f"{where}, search", ("retained",), first
        )
        search_config(search)
    vector = _digest(
        concept.name,
        concept.prompts or _picture_files(concept, where),
        pictures,
        _lasting(finetune),
        retained.prompts if retained else (),
        plan.dtype,
    )
    lines = concept.retained if concept.strength is None else ()
    judge = plan.judge if concept.strength is None else ""
    searches = map(_lasting, (inversion, search))
    strength = _digest(vector, concept.strength, *searches, lines, judge)
    return Settings(concept, pictures, finetune, inversion, search, retained, vector, strength)


def _lasting(widgets: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in widgets.items() if name not in _SAME_RESULT}


def _check_texts(pictures: Mapping[str, Any], concept: ListedConcept, where: str) -> None:
    """Raises ConfigError for texts that the concept's prompts or pictures cannot have."""
    caption = pictures["caption"]
    if concept.prompts:
        for widget in ("caption", "contrast"):
            try:
                caption_lines(pictures[widget], concept.prompts, f"{widget}s")
            except ConfigError as wrong:
                raise ConfigError(f"{where}, {widget}: {wrong}") from wrong
    elif PROMPT_MARK in caption or len(caption.split("\n")) > 1:
        raise ConfigError(
            f"{where}: pictures from a folder have no prompts, so `caption` can only be one line "
            f"without {PROMPT_MARK}."
        )
    elif pictures["contrast"].strip():
        raise ConfigError(
            f"{where}: `contrast` is what prompts say without the concept, and pictures from a "
            "folder have no prompts. Leave it out for this concept."
        )


def _retained(concept: ListedConcept, where: str) -> RetainedPrompts | None:
    if not concept.retained:
        return None
    parsed = parse_retained("\n".join(concept.retained), concept.name)
    if parsed.warnings:
        raise ConfigError(
            f"{where}: a retained prompt contains the concept itself, which cannot both go and "
            "stay. Take it out, or give this concept a `retained` of its own."
        )
    return parsed


def _picture_files(concept: ListedConcept, where: str) -> list[str]:
    """The content of the folder's pictures, so that an exchanged one is noticed."""
    from ..host.app.image_folders import pictures_in

    found = pictures_in(folder_of(concept.images))
    if not found:
        raise ConfigError(f"{where}: the folder {concept.images!r} holds no pictures")
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in found]


def _digest(*parts: Any) -> str:
    return hashlib.sha256(compact_json(parts).encode()).hexdigest()[:16]
