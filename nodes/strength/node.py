"""Auto-Strength: how much to subtract, measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...tverase_core.inversion.inversion_set import InversionSet
from ...tverase_core.judging.prototype_judge import check_names
from ...tverase_core.model.block_mask import BlockMask
from ...tverase_core.ports import Context, Progress
from ...tverase_core.storage.form import Form
from ...tverase_core.strength.choice import (
    NoFeasibleStrengthError,
    SearchConfig,
    StrengthChoice,
)
from ...tverase_core.strength.choice_file import load_choice, save_choice
from ...tverase_core.strength.measurement import ModelMeasurement
from ...tverase_core.strength.search import find_strength
from ...tverase_core.strength.verify import verify
from ...tverase_core.vector.erase import Plan
from ...tverase_core.vector.task_vector import TaskVector
from ..pictures.strength_curve import strength_curve
from ..shared.drawing_settings import drawing_of, drawing_widgets
from ..shared.kept_work import FINISHED_WORK
from ..shared.node_output import with_pictures
from ..shared.retained_prompts import parse_retained
from ..shared.sockets import BLOCK_MASK, CATEGORY, INVERSION_SET, JUDGE, TASK_VECTOR
from ..shared.widgets import socket
from .report import counts, strength_report
from .strength_settings import SETTINGS, held_out_seeds, search_config
from .triggers import Texts, split_triggers

PURPOSE = "Auto-Strength"
FORM = Form(save_choice, load_choice)


class AutoStrength:
    """The smallest strength at which every trigger is suppressed."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": socket("MODEL", "The base model."),
                "clip": socket("CLIP", "Its text encoder."),
                "vae": socket("VAE", "Its VAE."),
                "task_vector": socket(TASK_VECTOR, "What will be subtracted."),
                "inversion_set": socket(
                    INVERSION_SET, "Triggers that must stop working, from Diverse Inversion."
                ),
                "judge": socket(
                    JUDGE, "Tells whether the concept, and each retained one, is seen."
                ),
                **SETTINGS,
                **drawing_widgets(),
            },
            "optional": {
                "block_mask": socket(
                    BLOCK_MASK, "The mask that Apply Negated TV will use. Not connected: none."
                ),
                "attack": socket(
                    INVERSION_SET,
                    "What Concept Inversion Attack found on the MODEL that was erased before: "
                    "what brings the concept back there must stop working too. For another round.",
                ),
                **FINISHED_WORK,
            },
        }

    RETURN_TYPES = ("FLOAT", "STRING")
    RETURN_NAMES = ("strength", "report")
    OUTPUT_TOOLTIPS = (
        "Connect to the strength of Apply Negated TV.",
        "The choice, its reason and the held-out check, in words.",
    )
    FUNCTION = "choose"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Finds the smallest strength at which every trigger is suppressed while the retained "
        "prompts stay, at your own sampler, steps and CFG, and verifies it on triggers and seeds "
        "that played no part in the choice."
    )
    SEARCH_ALIASES = ["alpha", "strength search", "auto alpha", "find strength"]

    def choose(
        self,
        model: Any,
        clip: Any,
        vae: Any,
        task_vector: TaskVector,
        inversion_set: InversionSet,
        judge: Any,
        block_mask: BlockMask | None = None,
        attack: InversionSet | None = None,
        **widgets: Any,
    ) -> dict[str, Any]:
        from ..host.app.progress import NodeProgress
        from ..host.model.edits import checked_deltas
        from ..host.text.encoder import HostTextEncoder
        from ..host.training.finished import finished_work

        concept = inversion_set.concept
        retained = parse_retained(widgets["retained"], concept)
        check_names(judge, (concept, *retained.concepts))
        config, split = search_config(widgets), split_triggers(inversion_set, widgets, attack)
        allow = widgets["other_weights"] == "allow"
        deltas = checked_deltas(model, task_vector, block_mask, allow_other_weights=allow)
        progress, encoder = NodeProgress(), HostTextEncoder(model, clip)
        texts = split.texts(encoder, retained)

        def parts() -> list[Any]:
            told = (*texts, encoder.encode([""]))
            drawn = (vae, drawing_of(widgets), judge, concept, retained.concepts)
            return [told, drawn, deltas, config, held_out_seeds(widgets)]

        reuse = widgets.get("finished_work", "")
        kept = finished_work(FORM, reuse, model, PURPOSE, parts)
        choice = kept.found()
        if choice is None:
            drawing = (model, clip, vae, encoder, judge, concept, retained.concepts)
            choice = self._searched(*drawing, progress, deltas, texts, config, widgets)
            kept.keep(choice)
        notes = (*retained.warnings, *split.notes)
        text = strength_report(choice, concept, split.names, retained.prompts, notes)
        picture = strength_curve(choice, concept)
        progress.show(picture)  # an error shows no picture of its own
        strength = strength_or_stop(choice, widgets["when_infeasible"], text)
        shown = "\n".join(filter(None, (text, kept.note)))
        output = with_pictures({"strength": picture}, (strength, text), shown)
        output["ui"] |= {"strength": [strength], **counts(choice)}  # for clients over HTTP
        return output

    def _searched(
        self,
        model: Any,
        clip: Any,
        vae: Any,
        encoder: Any,
        judge: Any,
        concept: str,
        kept_concepts: Sequence[str],
        progress: Progress,
        deltas: Plan,
        texts: Texts,
        config: SearchConfig,
        widgets: dict[str, Any],
    ) -> StrengthChoice:
        """The search and, where there is something to check with, the held-out check."""
        from ..host.drawing.studio import open_studio
        from ..host.model.edits import on_device, plan_bytes

        triggers, others, keep = texts
        loading = {"purpose": PURPOSE, "extra_memory_bytes": plan_bytes(deltas), "encoder": encoder}
        with (
            open_studio(model, clip, vae, drawing_of(widgets), autocast=True, **loading) as studio,
            studio.denoiser.attached(on_device(deltas, studio.denoiser.device)) as attachment,
        ):
            # The check draws the same prompts as the search, at other seeds: too few are given to
            # set some aside.
            def measurement(shown: Context) -> ModelMeasurement:
                concepts = concept, shown, keep, kept_concepts
                return ModelMeasurement(attachment, studio.sampler, judge, *concepts)

            choice = find_strength(measurement(triggers), config, progress=progress)
            if choice.strength is not None and others is not None:
                seeds = held_out_seeds(widgets)
                choice = verify(choice, measurement(others), *seeds, progress, config.at_once)
        return choice


def strength_or_stop(choice: StrengthChoice, when_infeasible: str, text: str) -> float:
    """The strength; for an infeasible choice the nearest, or NoFeasibleStrengthError."""
    if choice.strength is not None:
        return choice.strength
    if when_infeasible == "stop" or not choice.tradeoffs:
        raise NoFeasibleStrengthError(
            f"{text}\nGive Concept Fine-tune a retained set and set its `guidance` to your CFG, "
            "allow a higher target or a lower budget, or set `when_infeasible` to 'nearest'.",
            choice.curve,
            choice.tradeoffs,
        )
    return choice.tradeoffs[0].strength
