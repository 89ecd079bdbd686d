"""Diverse Inversion: many triggers of one concept, found in one batch and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.inversion.config import InversionConfig
from ...tverase_core.inversion.diverse import Validation, diverse_inversion
from ...tverase_core.inversion.engine import own_seeds
from ...tverase_core.inversion.inversion_set import InversionSet
from ...tverase_core.judging.prototype_judge import check_names
from ...tverase_core.judging.scoring import check_judge
from ..pictures.cosine_matrix import cosine_matrix
from ..pictures.figure import to_tensor
from ..pictures.inversion_grid import inversion_grid
from ..shared.drawing_settings import drawing_of, drawing_widgets
from ..shared.node_output import with_pictures
from ..shared.sockets import CATEGORY, CONCEPT_SET, INVERSION_SET, JUDGE
from ..shared.widgets import socket
from .inversion_settings import BOUNDS, SETTINGS, inversion_config
from .text_memory import announced_memory

PURPOSE = "Diverse Inversion"
CHECK_SEEDS = 900_000_000  # far from the seeds that the strength is tuned and verified with


class DiverseInversionNode:
    """Inverts the concept's pictures into many embeddings."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": socket("MODEL", "The base model. Or an erased one, to attack it."),
                "clip": socket("CLIP", "Its text encoder."),
                "vae": socket("VAE", "Its VAE, to draw what each embedding makes."),
                "concept_set": socket(CONCEPT_SET, "Pictures of the concept."),
                "judge": socket(JUDGE, "Tells whether the concept is in a picture."),
                **SETTINGS,
                **drawing_widgets(),
            },
            "optional": BOUNDS,
        }

    RETURN_TYPES = (INVERSION_SET, "IMAGE", "STRING")
    RETURN_NAMES = ("inversion_set", "grid", "report")
    OUTPUT_TOOLTIPS = (
        "The embeddings, for Auto-Strength and Auto Block Mask.",
        "What each embedding draws, a row each.",
        "How many were found, restarted and dropped.",
    )
    FUNCTION = "invert"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Finds many different embeddings that make the model draw the concept, so that an erasure "
        "can be tested with triggers nobody would type. Each is checked by drawing pictures; those "
        "that fail start anew or are dropped."
    )
    SEARCH_ALIASES = ["textual inversion", "adversarial prompts", "attack", "embeddings"]

    def invert(
        self,
        model: Any,
        clip: Any,
        vae: Any,
        concept_set: ConceptSet,
        judge: Any,
        **widgets: Any,
    ) -> dict[str, Any]:
        from ..host.app.progress import NodeProgress
        from ..host.drawing.studio import open_studio
        from ..host.model.at_use import without_edits
        from ..host.model.own_pictures import require_own_pictures
        from ..host.training.unfinished import unfinished_inversion

        check_names(judge, (concept_set.concept,))
        require_own_pictures(model, concept_set)
        config = inversion_config(widgets)
        at_once = (config.chunk or config.count) * config.batch
        needed = announced_memory(model, clip, concept_set, config, at_once)
        drawn: dict[int, torch.Tensor] = {}
        bar = NodeProgress(lambda: preview(config.count, drawn))
        prompt = widgets["prompt"].strip() or config.template.replace("{}", concept_set.concept)
        seeds = range(CHECK_SEEDS, CHECK_SEEDS + widgets["checks"])
        drawing, base = drawing_of(widgets), without_edits(model)
        if base is not None:
            with open_studio(base, clip, vae, drawing, purpose=PURPOSE) as studio:
                plain = studio.encoder.encode([prompt])
                check_judge(studio.sampler, judge, concept_set.concept, plain, seeds)
        with open_studio(
            *(model, clip, vae, drawing),
            purpose=PURPOSE,
            extra_memory_bytes=needed,
            autocast=True,
        ) as studio:
            checks = Validation(
                studio.sampler,
                judge,
                prompt,
                seeds,
                widgets["restarts"],
                at_once=widgets["pictures_at_once"],
                on_pictures=drawn.__setitem__,
                edited=base is not None,
            )
            encoder, resumable = studio.encoder, widgets["resumable"]
            with unfinished_inversion(model, config, concept_set, encoder, resumable) as u:
                found = diverse_inversion(
                    studio.denoiser,
                    encoder,
                    concept_set,
                    config,
                    checks,
                    bar,
                    state=u.state,
                    on_checkpoint=u.save,
                )
        found = replace(found, notes=(*found.notes, *encoder.remarks()))
        origins = original_numbers(found, config, widgets["restarts"])
        return inversion_output(found, {place: drawn[k] for place, k in enumerate(origins)})


def preview(count: int, drawn: Mapping[int, torch.Tensor]) -> Any:
    """What the embeddings have drawn so far."""
    return inversion_grid([str(k + 1) for k in range(count)], drawn, 8) if drawn else None


def original_numbers(found: InversionSet, config: InversionConfig, restarts: int) -> list[int]:
    """Which of the inversions that were started each kept one is: its seed tells."""
    started = {
        seed: number
        for generation in range(restarts + 1)
        for number, seed in enumerate(own_seeds(config, generation).tolist())
    }
    return [started[seed] for seed in found.seeds.tolist()]


def inversion_output(found: InversionSet, drawn: Mapping[int, torch.Tensor]) -> dict[str, Any]:
    """The node's outputs and pictures; drawn: by place in the set."""
    rates = found.hit_rates
    labels = [
        f"{k + 1}: loss {float(found.losses[k]):.4f}"
        + ("" if rates is None else f", seen in {float(rates[k]):.0%}")
        for k in range(len(found))
    ]
    grid = inversion_grid(labels, drawn, 8)
    pictures = {"inversions": grid}
    if len(found) > 1:
        pictures["cosines"] = cosine_matrix(found.cosine_matrix(), f"{found.concept}: likeness")
    text = inversions_text(found)
    return with_pictures(pictures, (found, to_tensor(grid), text), text)


def inversions_text(found: InversionSet) -> str:
    """The set in a few plain lines."""
    nearest = found.max_cosine()
    lines = [
        f"{int(found.valid.sum())} embeddings that draw {found.concept!r}",
        f"denoising loss {float(found.losses.mean()):.4f} on average",
        *([] if nearest is None else [f"the most alike pair has cosine {nearest:.2f}"]),
        *found.notes,
    ]
    if len(found) == 1:
        lines.append(
            "one embedding alone cannot be split: Auto-Strength will not be able to verify"
        )
    return "\n".join(lines)
