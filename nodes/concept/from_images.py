"""Pictures of the concept that will be erased: your own, or drawn by the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.errors import ConfigError, EmptyConceptSetError
from ..shared.rgb import rgb
from ..shared.sockets import CATEGORY, CONCEPT_SET
from ..shared.whole_lists import TakesLists, one_batch
from ..shared.widgets import number, socket, text
from .building import build_concept_set

MODEL_AND_CLIP = {
    "model": socket("MODEL", "The model that will be edited."),
    "clip": socket("CLIP", "Its text encoder; it encodes the caption."),
}
CONCEPT = text(
    "",
    "What will be erased, in a word or two: 'cat', 'Van Gogh'. Stored in the file and told in "
    "reports. A judge must know it by exactly this name, and default prompts are made of it. It "
    "does not steer Concept Fine-tune.",
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


class _ConceptSetNode(TakesLists):
    """What the nodes that make a concept set of given pictures have in common."""

    RUN = "build"
    LISTS = ("images", "latents", "caption")

    RETURN_TYPES = (CONCEPT_SET,)
    RETURN_NAMES = ("concept_set",)
    OUTPUT_TOOLTIPS = ("The concept's pictures as latents, for Concept Fine-tune.",)
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
                    "IMAGE",
                    "Pictures of the concept, all of one size; a list makes one set. "
                    "20 to 200 work well.",
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
        images: Sequence[torch.Tensor],
        concept: str,
        caption: Sequence[str],
        caption_share: float = 1.0,
    ) -> tuple[ConceptSet]:
        from ..host.network.latents import encoded

        pictures = one_batch("images", [rgb("images", batch) for batch in images])
        if len(pictures) == 0:
            raise EmptyConceptSetError("There are no pictures. Connect at least one to `images`.")
        _check_captions(caption, len(pictures))
        return (
            build_concept_set(model, clip, encoded(vae, pictures), concept, caption, caption_share),
        )


class ConceptSetFromLatents(_ConceptSetNode):
    """Takes latents as they are."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                **MODEL_AND_CLIP,
                "latents": socket(
                    "LATENT",
                    "Pictures of the concept as latents of this model; a list makes one set.",
                ),
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
        latents: Sequence[dict[str, torch.Tensor]],
        concept: str,
        caption: Sequence[str],
        caption_share: float = 1.0,
    ) -> tuple[ConceptSet]:
        given = one_batch("latents", [each["samples"] for each in latents])
        _check_captions(caption, len(given))
        return (build_concept_set(model, clip, given, concept, caption, caption_share),)


def _check_captions(captions: Sequence[str], pictures: int) -> None:
    if len(captions) not in (1, pictures):
        raise ConfigError(
            f"There are {len(captions)} captions for {pictures} pictures. Give one for all, or "
            "a list with one for each."
        )
