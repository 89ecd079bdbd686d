"""Pictures of the concept that will be erased: your own, or drawn by the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..tverase_core.concept_set import ConceptSet, concept_set
from ..tverase_core.errors import ConfigError, EmptyConceptSetError, ShapeMismatchError
from .sockets import CATEGORY, CONCEPT_SET

MODEL_AND_CLIP = {
    "model": ("MODEL", {"tooltip": "The model that will be edited."}),
    "clip": ("CLIP", {"tooltip": "Its text encoder; it encodes the caption."}),
}
CONCEPT = (
    "STRING",
    {
        "default": "",
        "tooltip": "What will be erased, in a word or two: 'cat', 'Van Gogh'. Used to name files "
        "and reports.",
    },
)
CAPTION = (
    "STRING",
    {
        "default": "",
        "tooltip": "Text the pictures are shown under during the fine-tune. Empty, as in the "
        "paper: then the edit does not depend on a prompt.",
        "advanced": True,
    },
)
CAPTION_SHARE = (
    "FLOAT",
    {
        "default": 1.0,
        "min": 0.0,
        "max": 1.0,
        "step": 0.05,
        "tooltip": "Share of the pictures that are shown under the caption; the others are shown "
        "without one. Half and half erases more for the same harm, where a prompt names "
        "the concept. Means nothing while the caption is empty.",
        "advanced": True,
    },
)


def build_concept_set(
    model: Any,
    clip: Any,
    latents: torch.Tensor,
    concept: str,
    captions: Sequence[str],
    share: float = 1.0,
) -> ConceptSet:
    """A concept set of latents float [n, c, h, w] as the VAE gives them.

    captions: one for all pictures, or several that the pictures take in turn. share: of the
    pictures that get one, 0 to 1; the rest has the empty caption.
    Raises ConfigError for an empty concept name, ShapeMismatchError for latents of another model,
    and what `concept_set` raises.
    """
    from .host.conditioning import encode_texts, to_context

    if not concept.strip():
        raise ConfigError(
            "The concept has no name. Write what is in the pictures, for example 'cat', into "
            "`concept`."
        )
    channels = model.get_model_object("latent_format").latent_channels
    if latents.ndim == 4 and latents.shape[1] != channels:
        raise ShapeMismatchError(
            f"The pictures were encoded to {latents.shape[1]} latent channels, this model has "
            f"{channels}. Use the VAE of the same checkpoint as the MODEL.",
            "latents",
            (channels,),
            (latents.shape[1],),
        )
    scaled = model.model.process_latent_in(latents)
    if not any(captions) or not len(latents):
        return concept_set(
            concept.strip(), scaled, to_context(model, encode_texts(clip, [""]), latents.shape[1:])
        )
    texts = to_context(model, encode_texts(clip, [*captions, ""]), latents.shape[1:])
    rows = caption_turns(len(latents), len(captions), share)
    rows = rows[:1] if bool((rows == rows[0]).all()) else rows  # one row serves all
    empty = texts.pick(torch.tensor([len(captions)]))
    return concept_set(concept.strip(), scaled, texts.pick(rows), empty)


def caption_turns(count: int, captions: int, share: float) -> torch.Tensor:
    """Which caption each picture has, int64 [count]; the number `captions` stands for none.

    The captions take turns. Each is left out in 1 - share of its turns, spread evenly; different
    captions are left out in different rounds, so that a round has about its share as well.
    """
    turns = torch.arange(count, dtype=torch.float64)
    rounds, caption = turns.div(captions, rounding_mode="floor"), turns % captions
    phase = (caption + 0.5) / captions + 1e-9  # the last term: 0.1 * 10 shall be 1
    captioned = ((rounds + 1) * share + phase).floor() > (rounds * share + phase).floor()
    return torch.where(captioned, caption, captions).long()


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
                "vae": ("VAE", {"tooltip": "Its VAE; it turns the pictures into latents."}),
                "images": (
                    "IMAGE",
                    {"tooltip": "Pictures of the concept, all of one size. 20 to 200 work well."},
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
                "latents": (
                    "LATENT",
                    {"tooltip": "Pictures of the concept as latents of this model."},
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
        latents: dict[str, torch.Tensor],
        concept: str,
        caption: str,
        caption_share: float = 1.0,
    ) -> tuple[ConceptSet]:
        given = latents["samples"]
        return (build_concept_set(model, clip, given, concept, [caption], caption_share),)
