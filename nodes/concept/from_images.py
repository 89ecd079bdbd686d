"""Pictures of the concept that will be erased: your own, or drawn by the model itself."""

from __future__ import annotations

from typing import Any

import torch

from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.errors import EmptyConceptSetError
from ..shared.sockets import CATEGORY, CONCEPT_SET
from ..shared.widgets import number, socket, text
from .building import build_concept_set

MODEL_AND_CLIP = {
    "model": socket("MODEL", "The model that will be edited."),
    "clip": socket("CLIP", "Its text encoder; it encodes the caption."),
}
CONCEPT = text(
    "", "What will be erased, in a word or two: 'cat', 'Van Gogh'. Used to name files and reports."
)
CAPTION = text(
    "",
    "Text the pictures are shown under during the fine-tune. Empty, as in the "
    "paper: then the edit does not depend on a prompt.",
    advanced=True,
)
CAPTION_SHARE = number(
    1.0,
    (0.0, 1.0, 0.05),
    "Share of the pictures that are shown under the caption; the others are shown "
    "without one. Half and half erases more for the same harm, where a prompt names "
    "the concept. Means nothing while the caption is empty.",
    advanced=True,
)


class _ConceptSetNode:
    """What the nodes that make a concept set of given pictures have in common."""

    RETURN_TYPES = (CONCEPT_SET,)
    RETURN_NAMES = ("concept_set",)
    OUTPUT_TOOLTIPS = ("The concept's pictures as latents, for Concept Fine-tune.",)
    FUNCTION = "build"
    CATEGORY = CATEGORY


class ConceptSetFromImages(_ConceptSetNode):
    """Encodes the user's pictures."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                **MODEL_AND_CLIP,
                "vae": socket("VAE", "Its VAE; it turns the pictures into latents."),
                "images": socket(
                    "IMAGE", "Pictures of the concept, all of one size. 20 to 200 work well."
                ),
                "concept": CONCEPT,
                "caption": CAPTION,
            },
            "optional": {"caption_share": CAPTION_SHARE},
        }

    DESCRIPTION = "Makes a concept set from your own pictures of what should be erased."
    SEARCH_ALIASES = ["training images", "dataset", "erase from images"]

    def build(
        self,
        model: Any,
        clip: Any,
        vae: Any,
        images: torch.Tensor,
        concept: str,
        caption: str,
        caption_share: float = 1.0,
    ) -> tuple[ConceptSet]:
        if len(images) == 0:
            raise EmptyConceptSetError("There are no pictures. Connect at least one to `images`.")
        latents = vae.encode(images[..., :3])
        return (build_concept_set(model, clip, latents, concept, [caption], caption_share),)


class ConceptSetFromLatents(_ConceptSetNode):
    """Takes latents as they are."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                **MODEL_AND_CLIP,
                "latents": socket("LATENT", "Pictures of the concept as latents of this model."),
                "concept": CONCEPT,
                "caption": CAPTION,
            },
            "optional": {"caption_share": CAPTION_SHARE},
        }

    DESCRIPTION = "Makes a concept set from latents, for example a KSampler's."
    SEARCH_ALIASES = ["training latents", "dataset"]

    def build(
        self,
        model: Any,
        clip: Any,
        latents: dict[str, torch.Tensor],
        concept: str,
        caption: str,
        caption_share: float = 1.0,
    ) -> tuple[ConceptSet]:
        given = latents["samples"]
        return (build_concept_set(model, clip, given, concept, [caption], caption_share),)
