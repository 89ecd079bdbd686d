"""Diverse Inversion: many triggers of one concept, found in one batch and checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.inversion.config import InversionConfig
from ...tverase_core.inversion.diverse import Validation, diverse_inversion
from ...tverase_core.inversion.files import job_digest
from ...tverase_core.judging.prototype_judge import check_names
from ...tverase_core.judging.scoring import check_judge
from ..shared.drawing_settings import drawing_of, drawing_widgets
from ..shared.kept_work import FINISHED_WORK
from ..shared.sockets import CATEGORY, CONCEPT_SET, INVERSION_SET, JUDGE
from ..shared.widgets import socket
from .finished import FORM, FinishedInversion
from .inversion_settings import BOUNDS, SETTINGS, inversion_config
from .output import inversion_output, inversions_grid, original_numbers, preview
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
            "optional": {**BOUNDS, **FINISHED_WORK},
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
        from ..host.model.own_pictures import require_own_pictures
        from ..host.text.encoder import HostTextEncoder
        from ..host.training.finished import finished_work

        check_names(judge, (concept_set.concept,))
        require_own_pictures(model, concept_set)
        config = inversion_config(widgets)
        prompt = widgets["prompt"].strip() or config.template.replace("{}", concept_set.concept)
        encoder = HostTextEncoder(model, clip)

        def parts() -> list[Any]:
            texts = job_digest(config, concept_set, encoder), encoder.encode([prompt, ""])
            checks = [widgets[name] for name in ("checks", "restarts")]
            return [*texts, config, vae, judge, drawing_of(widgets), *checks]

        choice = widgets.get("finished_work", "")
        kept = finished_work(FORM, choice, model, PURPOSE, parts)
        made = kept.found()
        if made is None:
            made = self._inverted(
                model, clip, vae, encoder, concept_set, judge, config, prompt, widgets
            )
            kept.keep(made)
        return inversion_output(made, kept.note)

    def _inverted(
        self,
        model: Any,
        clip: Any,
        vae: Any,
        encoder: Any,
        concept_set: ConceptSet,
        judge: Any,
        config: InversionConfig,
        prompt: str,
        widgets: dict[str, Any],
    ) -> FinishedInversion:
        from ..host.app.progress import NodeProgress
        from ..host.drawing.studio import open_studio
        from ..host.model.at_use import without_edits
        from ..host.training.unfinished import unfinished_inversion

        at_once = (config.chunk or config.count) * config.batch
        needed = announced_memory(model, clip, concept_set, config, at_once)
        drawn: dict[int, torch.Tensor] = {}
        bar = NodeProgress(lambda: preview(config.count, drawn))
        seeds = range(CHECK_SEEDS, CHECK_SEEDS + widgets["checks"])
        drawing, base = drawing_of(widgets), without_edits(model)
        if base is not None:
            with open_studio(base, clip, vae, drawing, purpose=PURPOSE) as studio:
                plain = studio.encoder.encode([prompt])
                check_judge(studio.sampler, judge, concept_set.concept, plain, seeds)
        loading = {"purpose": PURPOSE, "extra_memory_bytes": needed, "encoder": encoder}
        with open_studio(model, clip, vae, drawing, autocast=True, **loading) as studio:
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
            job = (model, config, concept_set, encoder, widgets["resumable"])
            with unfinished_inversion(*job) as u:
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
        return FinishedInversion(
            found, inversions_grid(found, {place: drawn[k] for place, k in enumerate(origins)})
        )
