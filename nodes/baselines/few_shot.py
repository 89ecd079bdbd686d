"""An eraser that edits the text encoder, and the node that applies vectors to a CLIP."""

from __future__ import annotations

from typing import Any

from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.vector.erase import signed_scale, subtracted
from ...tverase_core.vector.provenance import Provenance
from ...tverase_core.vector.task_vector import TaskVector
from ..pictures.loss_curve import loss_curve
from ..shared.node_output import with_picture, with_text
from ..shared.sockets import CATEGORY, CONCEPT_SET, TASK_VECTOR
from ..shared.widgets import PRECISION, socket
from .few_shot_settings import CLIP_STRENGTH, FEW_SHOT_SETTINGS

METHOD = "Few-shot Unlearning"
TRAINED_BYTES = 20  # a trained weight's delta, gradient, two moments and sum, float32 each


class FewShotNode:
    """Few-shot Unlearning, arXiv 2405.07288."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": socket("MODEL", "The base model. Only its text encoder is edited."),
                "clip": socket("CLIP", "Its text encoder, of which an edit is learned."),
                "concept_set": socket(CONCEPT_SET, "Pictures of the concept; a handful is enough."),
                **FEW_SHOT_SETTINGS,
            }
        }

    RETURN_TYPES = (TASK_VECTOR,)
    RETURN_NAMES = ("task_vector",)
    OUTPUT_TOOLTIPS = ("For Apply Negated TV to CLIP: strength 1 is the method's own edit.",)
    FUNCTION = "erase"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Few-shot Unlearning (arXiv 2405.07288), a known eraser that spoils what the text encoder "
        "makes of a name, from a few pictures in seconds. Here for comparison: the MODEL keeps "
        "the concept, so any other CLIP brings it back."
    )
    SEARCH_ALIASES = ["few-shot unlearning", "text encoder", "baseline", "unlearn"]

    def erase(
        self,
        model: Any,
        clip: Any,
        concept_set: ConceptSet,
        concept: str,
        captions: str,
        pictures: int = 4,
        **widgets: Any,
    ) -> dict[str, Any]:
        from ...tverase_core.erasers.few_shot import (
            FewShotConfig,
            captioned,
            few_shot,
            few_shot_keys,
        )
        from ..host.app.progress import NodeProgress
        from ..host.model.denoiser import open_denoiser, refuse_patched
        from ..host.model.own_pictures import require_own_pictures
        from ..host.text.edits import EditableHostTextEncoder, clip_fingerprint, refuse_patched_clip
        from ..host.training.activations import gradient_bytes

        refuse_patched(model)
        refuse_patched_clip(clip)
        require_own_pictures(model, concept_set)
        config = FewShotConfig(**widgets)
        name = concept.strip() or concept_set.concept
        texts = captioned(name, captions.splitlines())
        latents = concept_set.latents[: pictures or None]
        encoder = EditableHostTextEncoder(model, clip)
        shapes = encoder.weight_shapes()
        trained = sum(shapes[key].numel() for key in few_shot_keys(shapes))
        needed = gradient_bytes(model, concept_set, config.batch_size)
        if encoder.device == model.load_device:  # the copy in float32, and what is trained of it
            weights = sum(shape.numel() for shape in shapes.values())
            needed += trained * TRAINED_BYTES + 4 * weights
        with open_denoiser(model, needed, purpose=METHOD) as denoiser:
            result = few_shot(denoiser, encoder, latents, texts, config, NodeProgress())
        provenance = Provenance(
            concepts=(name,),
            recipe={
                "method": f"{METHOD} (arXiv 2405.07288)",
                "captions": captions,
                "pictures": len(latents),
                **widgets,
            },
            title=f"{name}, {METHOD}",
            tags=("concept-erasure", "few-shot-unlearning"),
        )
        vector = TaskVector(result.deltas, clip_fingerprint(clip), provenance)
        return with_picture(loss_curve(result.losses, config.steps, METHOD), "few_shot", (vector,))


class ApplyNegatedTVToCLIP:
    """text encoder - strength * task vector, as patches on a clone."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "clip": socket("CLIP", "The text encoder to edit. It is not changed itself."),
                "task_vector": socket(
                    TASK_VECTOR, "The concept's task vector, from Few-shot Unlearning."
                ),
                **CLIP_STRENGTH,
            },
            "optional": {"precision": PRECISION},
        }

    RETURN_TYPES = ("CLIP",)
    RETURN_NAMES = ("erased_clip",)
    OUTPUT_TOOLTIPS = ("The CLIP with the concept suppressed. Connect to CLIP Text Encode.",)
    FUNCTION = "apply"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Subtracts a task vector's text-encoder weights from a CLIP. Each of them must fit, or "
        "nothing is changed. Strength 0 returns the very same CLIP. The MODEL stays as it is: "
        "for vectors of a diffusion model use Apply Negated TV."
    )
    SEARCH_ALIASES = ["erase", "unlearn", "text encoder", "negative lora"]

    def apply(
        self,
        clip: Any,
        task_vector: TaskVector,
        strength: float,
        other_weights: str,
        precision: str = "patch",
    ) -> tuple[Any] | dict[str, Any]:
        from ..host.text.edits import checked_clip_deltas, edited_clip

        if signed_scale(strength) == 0:
            return (clip,)
        allow = other_weights == "allow"
        deltas, note = checked_clip_deltas(clip, task_vector, allow_other_weights=allow)
        edited, rounded = edited_clip(clip, subtracted(deltas, strength), precision)
        text = " ".join(filter(None, [note, rounded]))
        return with_text(text, (edited,)) if text else (edited,)
