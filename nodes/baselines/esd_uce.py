"""Two published erasers that depend on a prompt, for comparison: ESD and UCE."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any

import torch

from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.errors import ConfigError
from ...tverase_core.vector.provenance import Provenance
from ...tverase_core.vector.task_vector import TaskVector
from ..pictures.loss_curve import loss_curve
from ..shared.node_output import with_picture
from ..shared.prompt_lines import prompt_lines
from ..shared.sockets import CATEGORY, CONCEPT_SET, TASK_VECTOR
from ..shared.widgets import socket
from .esd_uce_settings import ESD_SETTINGS, UCE_SETTINGS

ADAM_BYTES = 16  # a trained weight's delta, gradient and two moments, float32 each
STRENGTH_1 = "For Apply Negated TV: strength 1 is the method's own edit."


class EsdNode:
    """Erased Stable Diffusion, arXiv 2303.07345."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": socket("MODEL", "The base model."),
                "clip": socket("CLIP", "Its text encoder."),
                "concept_set": socket(
                    CONCEPT_SET, "Pictures of the concept; noise is added to them."
                ),
                **ESD_SETTINGS,
            }
        }

    RETURN_TYPES = (TASK_VECTOR,)
    RETURN_NAMES = ("task_vector",)
    OUTPUT_TOOLTIPS = (STRENGTH_1,)
    FUNCTION = "erase"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "ESD (arXiv 2303.07345), a known eraser that learns to steer a prompt away from the "
        "concept. Here for comparison: it depends on the prompt and is easier to get around."
    )
    SEARCH_ALIASES = ["erased stable diffusion", "baseline", "unlearn"]

    def erase(
        self, model: Any, clip: Any, concept_set: ConceptSet, prompts: str, **widgets: Any
    ) -> dict[str, Any]:
        from ...tverase_core.erasers.esd import EsdConfig, esd
        from ...tverase_core.erasers.teaching import esd_keys, from_latents
        from ..host.app.progress import NodeProgress
        from ..host.model.conditioning import encode_texts, to_context
        from ..host.model.denoiser import open_denoiser, refuse_patched
        from ..host.model.own_pictures import require_own_pictures
        from ..host.model.weights import fingerprint, layout_of, trainable_shapes
        from ..host.training.activations import gradient_bytes

        refuse_patched(model)
        require_own_pictures(model, concept_set)
        config = EsdConfig(**widgets)
        latents = concept_set.latents
        texts = prompt_lines(prompts), [""]
        concept, null = (to_context(model, encode_texts(clip, lines)) for lines in texts)
        layout, shapes = layout_of(model), trainable_shapes(model)
        trained = sum(shapes[key].numel() for key in esd_keys(shapes, layout, config.variant))
        needed = gradient_bytes(model, concept_set, config.batch_size) + trained * ADAM_BYTES
        with open_denoiser(model, needed, purpose="ESD") as denoiser:
            draw = from_latents(denoiser, latents)
            result = esd(denoiser, layout, concept, null, draw, config, NodeProgress())
            prediction = denoiser.schedule.prediction
        recipe = {"method": "ESD (arXiv 2303.07345)", "prompts": prompts, **widgets}
        vector = TaskVector(
            result.deltas,
            fingerprint(model, prediction),
            baseline_provenance(concept_set.concept, "ESD", recipe, prediction),
        )
        return with_picture(loss_curve(result.losses, config.steps, "ESD"), "esd", (vector,))


class UceNode:
    """Unified Concept Editing, arXiv 2308.14761."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": socket("MODEL", "The base model."),
                "clip": socket("CLIP", "Its text encoder."),
                **UCE_SETTINGS,
            }
        }

    RETURN_TYPES = (TASK_VECTOR,)
    RETURN_NAMES = ("task_vector",)
    OUTPUT_TOOLTIPS = (STRENGTH_1,)
    FUNCTION = "erase"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "UCE (arXiv 2308.14761), a known eraser in closed form: cross-attention treats the "
        "concept's words like the guide's. Takes seconds. Here for comparison."
    )
    SEARCH_ALIASES = ["unified concept editing", "baseline", "unlearn"]

    def erase(
        self,
        model: Any,
        clip: Any,
        concepts: str,
        guide: str,
        preserve: str,
        keep: float,
        preserve_weight: float,
    ) -> tuple[TaskVector]:
        from ...tverase_core.erasers.uce import (
            UceConfig,
            context_keys,
            last_word_vectors,
            sentences_ending_in,
            uce,
        )
        from ..host.app.progress import NodeProgress
        from ..host.model.denoiser import refuse_patched
        from ..host.model.weights import base_weight, fingerprint, layout_of, model_shapes
        from ..host.network.schedule import schedule_of
        from ..host.text.encoder import HostTextEncoder

        refuse_patched(model)
        keys = context_keys(model_shapes(model), layout_of(model))
        prediction = schedule_of(model).prediction
        names = prompt_lines(concepts)
        encoder = HostTextEncoder(model, clip)
        tower = next(iter(encoder.widths()))
        texts = [text for name in names for text in sentences_ending_in(name)]
        preserved = [line.strip() for line in preserve.splitlines() if line.strip()]
        if set(preserved) & set(names):
            raise ConfigError(
                f"{set(preserved) & set(names)} cannot be erased and preserved at once."
            )
        read, turns, progress = partial(base_weight, model), count(1), NodeProgress()

        def weight(key: str) -> torch.Tensor:
            progress(next(turns), len(keys), key)
            return read(key)

        deltas = uce(
            weight,
            keys,
            last_word_vectors(encoder, texts, tower),
            last_word_vectors(encoder, [guide.strip()], tower),
            last_word_vectors(encoder, preserved, tower) if preserved else None,
            UceConfig(keep=keep, preserve=preserve_weight),
        )
        recipe = {
            "method": "UCE (arXiv 2308.14761)",
            "guide": guide,
            "preserve": preserved,
            "keep": keep,
            "preserve_weight": preserve_weight,
        }
        provenance = baseline_provenance(", ".join(names), "UCE", recipe, prediction)
        return (TaskVector(deltas, fingerprint(model, prediction), provenance),)


def baseline_provenance(
    concept: str, method: str, recipe: dict[str, Any], prediction: str
) -> Provenance:
    """The provenance of a baseline's vector."""
    return Provenance(
        concepts=(concept,),
        recipe=recipe,
        title=f"{concept}, {method}",
        prediction=prediction,
        tags=("concept-erasure", method.lower()),
    )
