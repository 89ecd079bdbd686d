"""An eraser that edits the text encoder, and the node that applies vectors to a CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.sentences import SENTENCES
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
        shown = (
            "Pictures of the concept; a handful is enough, and the authors take photos. Without, "
            "latents of noise stand in for them, as in the authors' zero-shot way."
        )
        return {
            "required": {
                "model": socket("MODEL", "The base model. Only its text encoder is edited."),
                "clip": socket("CLIP", "Its text encoder, of which an edit is learned."),
                **FEW_SHOT_SETTINGS,
            },
            "optional": {"concept_set": socket(CONCEPT_SET, shown)},
        }

    RETURN_TYPES = (TASK_VECTOR, TASK_VECTOR)
    RETURN_NAMES = ("task_vector", "by_epoch")
    OUTPUT_IS_LIST = (False, True)
    OUTPUT_TOOLTIPS = (
        "For Apply Negated TV to CLIP: strength 1 is the method's own edit.",
        "A list with the vector of each epoch, with `every_epoch`; else the last one alone.",
    )
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
        concept: str,
        sentences: str,
        captions: str,
        pictures: int,
        every_epoch: bool,
        width: int,
        height: int,
        concept_set: ConceptSet | None = None,
        **widgets: Any,
    ) -> dict[str, Any]:
        from ...tverase_core.erasers.few_shot import FewShotConfig, captioned, few_shot
        from ..host.app.progress import NodeProgress
        from ..host.model.denoiser import open_denoiser, refuse_patched
        from ..host.network.latents import latent_shape
        from ..host.text.edits import EditableHostTextEncoder, clip_fingerprint, refuse_patched_clip

        refuse_patched(model)
        refuse_patched_clip(clip)
        config = FewShotConfig(**widgets)
        name = concept.strip() or (concept_set.concept if concept_set is not None else "")
        texts = captioned(name, captions.splitlines() if captions.strip() else SENTENCES[sentences])
        count = pictures or config.batch_size
        latents = (
            noise_for_pictures(latent_shape(model, height, width), count, config.seed)
            if concept_set is None
            else own_latents(model, concept_set, pictures)
        )
        encoder = EditableHostTextEncoder(model, clip)
        needed = memory_of(model, encoder, latents, config.batch_size)
        with open_denoiser(model, needed, purpose=METHOD) as denoiser:
            result = few_shot(
                *(denoiser, encoder, latents, texts, config, NodeProgress()),
                every_epoch=every_epoch,
            )
        recipe = {
            "method": f"{METHOD} (arXiv 2405.07288)",
            "captions": list(texts),
            "pictures": 0 if concept_set is None else len(latents),
            **widgets,
        }
        tags = ("concept-erasure", "few-shot-unlearning")
        base, vectors = clip_fingerprint(clip), list[TaskVector]()
        for number, deltas in enumerate(result.by_epoch, config.epochs - len(result.by_epoch) + 1):
            told = Provenance(
                concepts=(name,),
                recipe={**recipe, "epochs": number},
                title=f"{name}, {METHOD}",
                tags=tags,
            )
            vectors.append(TaskVector(deltas, base, told))
        curve = loss_curve(result.losses, len(result.losses), METHOD)
        return with_picture(curve, "few_shot", (vectors[-1], vectors))


def own_latents(model: Any, concept_set: ConceptSet, count: int) -> torch.Tensor:
    """The set's first `count` latents, 0 for all. Raises BaseMismatchError."""
    from ..host.model.own_pictures import require_own_pictures

    require_own_pictures(model, concept_set)
    return concept_set.latents[: count or None]


def noise_for_pictures(shape: Sequence[int], count: int, seed: int) -> torch.Tensor:
    """Latents in place of pictures."""
    from ...tverase_core.erasers.few_shot import random_latents

    return random_latents(count, shape, seed)


def memory_of(model: Any, encoder: Any, latents: torch.Tensor, batch_size: int) -> int:
    """Bytes that the training needs on the model's device, beside the model."""
    from ...tverase_core.erasers.few_shot import few_shot_keys
    from ..host.training.activations import gradient_bytes

    shapes = encoder.weight_shapes()
    needed = gradient_bytes(model, latents.shape[1:], encoder.encode([""]), batch_size)
    if encoder.device == model.load_device:  # the copy in float32, and what is trained of it
        trained = sum(shapes[key].numel() for key in few_shot_keys(shapes))
        needed += trained * TRAINED_BYTES + 4 * sum(shape.numel() for shape in shapes.values())
    return needed


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
