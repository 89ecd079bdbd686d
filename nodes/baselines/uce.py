"""A published eraser in closed form, for comparison: UCE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any

import torch

from ...tverase_core.errors import ConfigError
from ...tverase_core.vector.task_vector import TaskVector
from ..shared.prompt_lines import caption_lines, prompt_lines
from ..shared.sockets import CATEGORY, TASK_VECTOR
from ..shared.widgets import socket
from .published import STRENGTH_1, baseline_provenance
from .uce_settings import UCE_SETTINGS

METHOD = "UCE (arXiv 2308.14761)"


class UceNode:
    """Unified Concept Editing, arXiv 2308.14761."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": socket("MODEL", "The base model."),
                "clip": socket("CLIP", "Its text encoder."),
                **UCE_SETTINGS,
            }
        }

    RETURN_TYPES = (TASK_VECTOR,)
    RETURN_NAMES = ("task_vector",)
    OUTPUT_TOOLTIPS = (STRENGTH_1,)
    FUNCTION = "erase"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "UCE (arXiv 2308.14761), a known eraser in closed form: cross-attention treats the "
        "concept's words like the guide's. Takes seconds. Here for comparison."
    )
    SEARCH_ALIASES = ["unified concept editing", "baseline", "unlearn"]

    def erase(
        self,
        model: Any,
        clip: Any,
        concepts: str,
        guide: str,
        preserve: str,
        kind: Any,
        expand: bool,
        keep: float,
        preserve_weight: float,
        erase_weight: float,
        form: Any,
    ) -> tuple[TaskVector]:
        from ...tverase_core.erasers.uce import UceConfig, context_keys, uce
        from ...tverase_core.erasers.uce_rows import expanded, uce_rows
        from ..host.app.progress import NodeProgress
        from ..host.model.denoiser import refuse_patched
        from ..host.model.weights import fingerprint, layout_of, model_shapes
        from ..host.network.schedule import schedule_of
        from ..host.text.encoder import HostTextEncoder

        refuse_patched(model)
        keys = context_keys(model_shapes(model), layout_of(model))
        prediction = schedule_of(model).prediction
        names = prompt_lines(concepts)
        guides = guides_of(guide, names, kind)
        preserved = preserved_names(preserve, names)
        texts = expanded(names, guides, kind) if expand else (names, guides)
        encoder = HostTextEncoder(model, clip)
        rows = uce_rows(encoder, next(iter(encoder.widths())), *texts, preserved, form)
        config = UceConfig(keep, erase_weight, preserve_weight * rows.preserve_scale)
        progress = NodeProgress()
        read = told_reader(model, len(keys), progress)
        deltas = uce(read, keys, rows.concept, rows.guide, rows.preserve, config)
        progress(len(keys), len(keys), f"{len(keys)} matrices edited")  # stays on the canvas
        recipe = {
            "method": METHOD,
            "guide": guides,
            "preserve": preserved,
            "kind": kind,
            "expand": expand,
            "keep": keep,
            "preserve_weight": preserve_weight,
            "erase_weight": erase_weight,
            "form": form,
        }
        provenance = baseline_provenance(", ".join(names), "UCE", recipe, prediction)
        return (TaskVector(deltas, fingerprint(model, prediction), provenance),)


def guides_of(text: str, names: Sequence[str], kind: str) -> list[str]:
    """One for each name. Raises ConfigError for another number of lines."""
    from ...tverase_core.erasers.uce_rows import DEFAULT_GUIDES

    lines = list(caption_lines(text, names, "guides"))
    return (lines if any(lines) else [DEFAULT_GUIDES[kind]]) * (len(names) // len(lines))


def preserved_names(text: str, edited: Sequence[str]) -> list[str]:
    """One a line, or none. Raises ConfigError for one that is edited too."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    both = [line for line in lines if line in edited]
    if both:
        raise ConfigError(
            f"{', '.join(map(repr, both))} cannot be edited and preserved at once. Take it out of "
            "`preserve`."
        )
    return lines


def told_reader(
    model: Any, keys: int, progress: Callable[[int, int, str], None]
) -> Callable[[str], torch.Tensor]:
    """Reads base weights and tells which; keys: how many will be read."""
    from ..host.model.weights import base_weight

    read, turns = partial(base_weight, model), count(1)

    def weight(key: str) -> torch.Tensor:
        progress(min(next(turns), keys), keys, key)
        return read(key)

    return weight
