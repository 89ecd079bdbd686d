"""STEREO, an eraser that attacks its own edit before it makes the last one; for comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.errors import ConfigError
from ...tverase_core.inversion.config import RANDOM
from ...tverase_core.sentences import SENTENCES
from ...tverase_core.vector.task_vector import TaskVector
from ..pictures.loss_curve import loss_curve
from ..shared.node_output import with_pictures
from ..shared.prompt_lines import prompt_lines
from ..shared.sockets import CATEGORY, CONCEPT_SET, TASK_VECTOR
from ..shared.widgets import socket
from .published import ADAM_BYTES, STRENGTH_1, baseline_provenance
from .stereo_settings import NOISED, STEREO_SETTINGS

if TYPE_CHECKING:
    from ...tverase_core.erasers.stereo import StereoResult
    from ...tverase_core.erasers.stereo_config import StereoConfig


class StereoNode:
    """STEREO, arXiv 2408.16807."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        shown = "Pictures of the concept. Each round attacks with a share of its own."
        return {
            "required": {
                "model": socket("MODEL", "The base model."),
                "clip": socket("CLIP", "Its text encoder."),
                "concept_set": socket(CONCEPT_SET, shown),
                **STEREO_SETTINGS,
            }
        }

    RETURN_TYPES = (TASK_VECTOR,)
    RETURN_NAMES = ("task_vector",)
    OUTPUT_TOOLTIPS = (STRENGTH_1,)
    FUNCTION = "erase"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "STEREO (arXiv 2408.16807), a known eraser built to withstand attacks: it searches for "
        "embeddings that bring the erased concept back, then erases them together with the "
        "prompts. Here for comparison; the attacks make it slow."
    )
    SEARCH_ALIASES = ["adversarially robust", "robust concept erasing", "baseline", "unlearn"]

    def erase(
        self,
        model: Any,
        clip: Any,
        concept_set: ConceptSet,
        prompts: str,
        anchors: str,
        samples: str,
        **widgets: Any,
    ) -> dict[str, Any]:
        from ...tverase_core.erasers.stereo import stereo
        from ...tverase_core.erasers.teaching import esd_keys, from_latents
        from ..host.app.progress import NodeProgress
        from ..host.model.denoiser import open_denoiser, refuse_patched
        from ..host.model.own_pictures import require_own_pictures
        from ..host.model.weights import fingerprint, layout_of, trainable_shapes
        from ..host.text.encoder import HostTextEncoder
        from ..host.training.activations import gradient_bytes_for

        refuse_patched(model)
        require_own_pictures(model, concept_set)
        config, named, scenes = stereo_config(widgets), prompt_lines(prompts), anchors_of(anchors)
        encoder = HostTextEncoder(model, clip)
        texts = [encoder.encode(lines) for lines in (named, scenes, [""])]
        layout, shapes = layout_of(model), trainable_shapes(model)
        trained = sum(
            shapes[key].numel() for key in esd_keys(shapes, layout, config.variant, "STEREO")
        )
        # An attack puts as many pictures through the model at once as the training does.
        activations = gradient_bytes_for(model, concept_set, config.batch_size)
        needed = activations + trained * ADAM_BYTES
        with open_denoiser(model, needed, purpose="STEREO") as denoiser:
            noised = from_latents(denoiser, concept_set.latents) if samples == NOISED else None
            told = NodeProgress()
            result = stereo(
                *(denoiser, layout, encoder, concept_set, *texts, config, told), draw=noised
            )
            prediction = denoiser.schedule.prediction
        values = recipe(result, prompts=named, anchors=scenes, samples=samples, **widgets)
        provenance = baseline_provenance(concept_set.concept, "STEREO", values, prediction)
        vector = TaskVector(result.deltas, fingerprint(model, prediction), provenance)
        return with_pictures(curves(result), (vector,), rounds_text(result))


def stereo_config(widgets: Mapping[str, Any]) -> StereoConfig:
    """The widgets as settings of the core. Raises ConfigError."""
    from ...tverase_core.erasers.stereo_config import StereoConfig

    start = widgets["start"].strip() or RANDOM
    return StereoConfig(**{**widgets, "start": start, "sentences": SENTENCES[widgets["sentences"]]})


def anchors_of(text: str) -> list[str]:
    """The anchors, one a line. Raises ConfigError when there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ConfigError(
            "STEREO: there is no anchor. Write sentences that contain the concept in a scene, one "
            "a line, such as 'a cat on a beach'."
        )
    return lines


def recipe(result: StereoResult, **settings: Any) -> dict[str, Any]:
    """What the task vector tells of its making, ready for JSON."""
    losses = [float(found.losses) for found in result.attacks]
    return {"method": "STEREO (arXiv 2408.16807)", **settings, "attack_losses": losses}


def curves(result: StereoResult) -> dict[str, Any]:
    """The losses of both stages, a picture each."""
    searched = [loss for losses in result.erase_losses for loss in losses]
    final = result.final_losses
    return {
        "stereo_rounds": loss_curve(searched, len(searched), "STEREO, rounds"),
        "stereo": loss_curve(final, len(final), "STEREO, last erasing"),
    }


def rounds_text(result: StereoResult) -> str:
    """How each attack went, a line each."""
    return "\n".join(
        f"attack {number}: denoising loss {float(found.losses):.4f}"
        for number, found in enumerate(result.attacks, 1)
    )
