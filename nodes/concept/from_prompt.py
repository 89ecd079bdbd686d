"""Pictures of the concept, drawn by the model itself."""

from __future__ import annotations

from typing import Any

import torch

from ...tverase_core.concept_set import ConceptSet
from ..shared.prompt_lines import PROMPT_MARK, caption_lines, prompt_lines
from ..shared.sockets import CATEGORY, CONCEPT_SET
from ..shared.widgets import Widget, choice, number, seed, socket, text, whole
from .building import build_concept_set
from .from_images import CAPTION, CAPTION_SHARE, CONCEPT


class ConceptSetFromPrompt:
    """Lets the model draw the concept, as the paper does."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        from ..host.drawing.sampling import SAMPLERS, SCHEDULERS

        return {
            "required": {
                "model": socket("MODEL", "The model that will be edited; it also draws."),
                "clip": socket("CLIP", "Its text encoder."),
                "prompt": text(
                    "a cat", "What to draw. One prompt a line; they take turns.", multiline=True
                ),
                "concept": CONCEPT,
                "count": whole(
                    200, (1, 4096), "How many pictures to draw. The paper's code uses 200."
                ),
                **_drawing(SAMPLERS, SCHEDULERS),
                "caption": (
                    "STRING",
                    {
                        **CAPTION[1],
                        "multiline": True,
                        "tooltip": f"{CAPTION[1]['tooltip']} {PROMPT_MARK} stands for each "
                        "picture's own prompt: use it for a retained set. One line for all "
                        "pictures, or one for each prompt.",
                    },
                ),
            },
            "optional": {
                "caption_share": CAPTION_SHARE,
                "contrast": text(
                    "",
                    "The prompts without the concept: one line for all, or one for "
                    "each prompt. Empty for an object; for a style, what is drawn in it. Used "
                    "only when Concept Fine-tune has guidance.",
                    multiline=True,
                    advanced=True,
                ),
            },
        }

    RETURN_TYPES = (CONCEPT_SET, "LATENT")
    RETURN_NAMES = ("concept_set", "latents")
    OUTPUT_TOOLTIPS = (
        "The concept's pictures as latents, for Concept Fine-tune.",
        "The same pictures, to look at: connect to VAE Decode.",
    )
    FUNCTION = "draw"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Draws pictures of the concept with the model itself, as the paper does. Look at them: "
        "the edit erases what these pictures have in common."
    )
    SEARCH_ALIASES = ["generate concept images", "training images", "erase from a name"]

    def draw(
        self,
        model: Any,
        clip: Any,
        prompt: str,
        concept: str,
        count: int,
        width: int,
        height: int,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        batch_size: int,
        caption: str,
        caption_share: float = 1.0,
        contrast: str = "",
    ) -> tuple[ConceptSet, dict[str, torch.Tensor]]:
        from ..host.app.progress import NodeProgress
        from ..host.drawing.fast import fast_to_draw
        from ..host.drawing.sampling import SamplerSettings, sample_latents
        from ..host.model.conditioning import encode_texts, to_context
        from ..host.network.latents import with_time

        lines = prompt_lines(prompt)
        captions = caption_lines(caption, lines)
        contrasts = caption_lines(contrast, lines, "contrasts")
        context = to_context(model, encode_texts(clip, lines))
        empty = to_context(model, encode_texts(clip, [""]))
        settings = SamplerSettings(steps, cfg, sampler_name, scheduler, height, width, batch_size)
        turns = torch.arange(count) % len(lines)
        seeds = [seed + i for i in range(count)]
        asked = context.pick(turns)
        with fast_to_draw(model) as drawn:
            latents = sample_latents(drawn, asked, empty, seeds, settings, NodeProgress())
        pictures = build_concept_set(
            model, clip, latents, concept, captions, caption_share, lines, contrasts
        )
        return pictures, {"samples": with_time(model, latents)}


def _drawing(samplers: list[str], schedulers: list[str]) -> dict[str, Any]:
    """The widgets that say how to draw, in their frozen order."""
    return {
        "width": _size(512),
        "height": _size(512),
        "seed": seed("Picture i is drawn from seed + i."),
        "steps": whole(20, (1, 1000), "Sampling steps."),
        "cfg": number(7.5, (0.0, 100.0, 0.1), "Guidance while drawing."),
        "sampler_name": choice(samplers, "Sampler.", default="dpmpp_2m", advanced=True),
        "scheduler": choice(schedulers, "Noise schedule.", default="karras", advanced=True),
        "batch_size": whole(
            8, (1, 256), "Pictures drawn at once. Lower it when memory runs out.", advanced=True
        ),
    }


def _size(default: int) -> Widget:
    return whole(
        default, (16, 4096), "Picture size in pixels: the size the model was trained on.", step=8
    )
