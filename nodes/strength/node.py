"""Auto-Strength: how much to subtract, measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...tverase_core.errors import ConfigError
from ...tverase_core.inversion.inversion_set import InversionSet
from ...tverase_core.judging.prototype_judge import check_names
from ...tverase_core.model.block_mask import BlockMask
from ...tverase_core.ports import Context, joined
from ...tverase_core.strength.choice import NoFeasibleStrengthError, StrengthChoice
from ...tverase_core.strength.measurement import ModelMeasurement
from ...tverase_core.strength.search import find_strength
from ...tverase_core.strength.verify import verify
from ...tverase_core.vector.task_vector import TaskVector
from ..pictures.strength_curve import strength_curve
from ..shared.drawing_settings import drawing_of, drawing_widgets
from ..shared.node_output import with_pictures
from ..shared.retained_prompts import parse_retained
from ..shared.sockets import BLOCK_MASK, CATEGORY, INVERSION_SET, JUDGE, TASK_VECTOR
from ..shared.widgets import socket
from .report import counts, strength_report
from .strength_settings import SETTINGS, held_out_seeds, search_config


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
        from ..host.drawing.studio import open_studio
        from ..host.model.edits import checked_deltas, on_device, plan_bytes

        concept = inversion_set.concept
        retained = parse_retained(widgets["retained"], concept)
        check_names(judge, (concept, *retained.concepts))
        config, split = search_config(widgets), split_triggers(inversion_set, widgets, attack)
        allow = widgets["other_weights"] == "allow"
        deltas = checked_deltas(model, task_vector, block_mask, allow_other_weights=allow)
        progress, drawing = NodeProgress(), drawing_of(widgets)
        loading = {"purpose": "Auto-Strength", "extra_memory_bytes": plan_bytes(deltas)}
        with (
            open_studio(model, clip, vae, drawing, autocast=True, **loading) as studio,
            studio.denoiser.attached(on_device(deltas, studio.denoiser.device)) as attachment,
        ):
            encoder = studio.encoder
            # The check draws the same prompts as the search, at other seeds: too few are given to
            # set some aside.
            keep = encoder.encode(retained.prompts)

            def measurement(triggers: Context) -> ModelMeasurement:
                return ModelMeasurement(
                    attachment, studio.sampler, judge, concept, triggers, keep, retained.concepts
                )

            tuning = [split.tuning, *([split.attacks] if split.attacks else [])]
            plain = encoder.encode([split.prompt])
            triggers = joined(plain, *(found.contexts(encoder) for found in tuning))
            choice = find_strength(measurement(triggers), config, progress=progress)
            if choice.strength is not None and split.held_out is not None:
                others = measurement(split.held_out.contexts(encoder))
                seeds = held_out_seeds(widgets)
                choice = verify(choice, others, *seeds, progress, config.at_once)
        notes = (*retained.warnings, *split.notes)
        text = strength_report(choice, concept, split.names, retained.prompts, notes)
        picture = strength_curve(choice, concept)
        progress.show(picture)  # an error shows no picture of its own
        strength = strength_or_stop(choice, widgets["when_infeasible"], text)
        output = with_pictures({"strength": picture}, (strength, text), text)
        output["ui"] |= {"strength": [strength], **counts(choice)}  # for clients over HTTP
        return output


@dataclass(frozen=True, slots=True)
class Split:
    """Which triggers tune and which verify; names and notes for the report. attacks tune too."""

    prompt: str
    tuning: InversionSet
    attacks: InversionSet | None
    held_out: InversionSet | None
    names: tuple[str, ...]
    notes: tuple[str, ...]


def split_triggers(
    inversion_set: InversionSet, widgets: Mapping[str, Any], attack: InversionSet | None = None
) -> Split:
    """The plain prompt and a share of the set for tuning, the rest held out; what attacks brought
    back tunes. Raises ConfigError for an attack on another concept."""
    usable = inversion_set.require_valid()
    prompt = widgets["prompt"].strip() or usable.template.replace("{}", usable.concept)
    tuning, held_out, notes = usable, None, []
    if len(usable) < 2:
        notes.append("Not verified: one embedding cannot be split into tuning and held-out ones.")
    elif widgets["verify"]:
        tuning, held_out = usable.split(widgets["tuning_share"], widgets["seed"])
    else:
        notes.append("Not verified: `verify` is off.")
    back = _brought_back(attack, usable.concept)
    if attack is not None and back is None:
        notes.append("The attacks brought nothing back, so they add no trigger.")
    names = [prompt, *(f"inversion {int(seed)}" for seed in tuning.seeds)]
    names += [f"attack {int(seed)}" for seed in (back.seeds if back else ())]
    return Split(prompt, tuning, back, held_out, tuple(names), tuple(notes))


def _brought_back(attack: InversionSet | None, concept: str) -> InversionSet | None:
    """The attacks that succeeded, None without any."""
    if attack is None:
        return None
    if attack.concept != concept:
        raise ConfigError(
            f"The attack was on {attack.concept!r}, the inversion set is of {concept!r}. Connect "
            "an attack on the same concept."
        )
    return attack.only_valid()


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
