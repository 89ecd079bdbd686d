"""What looks at a graph's inputs before any weight is touched, by node."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any

from devtools.in_process import PACK_NAME

Check = Callable[[dict[str, Any]], object]
_TEXT = ("STRING", {"default": "cat"})


def checks() -> Mapping[str, tuple[Check, dict[str, Any]]]:
    """By node: what looks at its widgets, and the widgets by name."""
    nodes = _module("nodes").NODE_CLASS_MAPPINGS
    paths = _module("nodes.host.app.paths")
    drawing = _module("nodes.shared.drawing_settings")
    retained = _module("nodes.shared.retained_prompts")
    lines = _module("nodes.shared.prompt_lines")
    search = _module("nodes.strength.strength_settings").search_config
    learn = _module("nodes.finetune.finetune_settings").finetune_config
    invert = _module("nodes.inversion.inversion_settings").inversion_config
    erase = _module("tverase_core.vector.erase").signed_scale

    def strength(given: dict[str, Any]) -> None:
        _finite(vars_of(drawing.drawing_of(given)))
        search(given)
        retained.parse_retained(given["retained"], given["concept"])

    def pictures(given: dict[str, Any]) -> None:
        prompts = lines.prompt_lines(given["prompt"])
        for name in ("caption", "contrast"):
            lines.caption_lines(given[name], prompts)

    return {
        "ConceptFinetune": (
            lambda g: _finite(vars_of(learn(g))),
            _widgets(nodes, "ConceptFinetune"),
        ),
        "DiverseInversion": (
            lambda g: _finite({**vars_of(invert(g)), **vars_of(drawing.drawing_of(g))}),
            _widgets(nodes, "DiverseInversion"),
        ),
        "AutoStrength": (strength, {**_widgets(nodes, "AutoStrength"), "concept": _TEXT}),
        "ConceptSetFromPrompt": (pictures, _widgets(nodes, "ConceptSetFromPrompt")),
        "ApplyNegatedTV": (
            lambda g: _finite({"scale": erase(g["strength"])}),
            _widgets(nodes, "ApplyNegatedTV"),
        ),
        "SaveTaskVector": (
            lambda g: paths.new_file("task_vectors", g["filename_prefix"]),
            _widgets(nodes, "SaveTaskVector"),
        ),
        "list": (lambda g: paths.list_folder("task_vectors", g["file"]), {"file": _TEXT}),
        **{name: (_loader(nodes[f"TVErase{name}"]), {"file": _TEXT}) for name in LOADERS},
        "LoadImageFolder": (_folder(nodes["TVEraseLoadImageFolder"]), {"folder": _TEXT}),
        "ExtractFromFiles": (
            _extract(nodes["TVEraseExtractFromFiles"]),
            {"base_file": _TEXT, "tuned_file": _TEXT},
        ),
    }


LOADERS = ("LoadTaskVector", "LoadInversionSet")


def vars_of(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def _finite(values: Mapping[str, Any]) -> None:
    broken = [n for n, v in values.items() if isinstance(v, float) and not math.isfinite(v)]
    if broken:
        raise AssertionError(f"let through: {broken}")


def _loader(node: Any) -> Check:
    def check(given: dict[str, Any]) -> None:
        if node.VALIDATE_INPUTS(given["file"]) is True:
            node.IS_CHANGED(given["file"])
            node().load(given["file"])

    return check


def _folder(node: Any) -> Check:
    def check(given: dict[str, Any]) -> None:
        if node.VALIDATE_INPUTS(given["folder"]) is True:
            node.IS_CHANGED(given["folder"])
            node().load(given["folder"], 16, 16, 2)

    return check


def _extract(node: Any) -> Check:
    def check(given: dict[str, Any]) -> None:
        if node.VALIDATE_INPUTS(**given) is True:
            node.IS_CHANGED(**given)

    return check


def _widgets(nodes: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A node's widgets by name."""
    inputs = nodes[f"TVErase{name}"].INPUT_TYPES()
    every = {**inputs["required"], **inputs.get("optional", {})}
    kinds = ("INT", "FLOAT", "BOOLEAN", "STRING")
    return {k: spec for k, spec in every.items() if isinstance(spec[0], list) or spec[0] in kinds}


def _module(name: str) -> Any:
    return importlib.import_module(f"{PACK_NAME}.{name}")
