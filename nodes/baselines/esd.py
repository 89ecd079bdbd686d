"""A published eraser that depends on a prompt, for comparison: ESD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.vector.task_vector import TaskVector
from ..pictures.loss_curve import loss_curve
from ..shared.node_output import with_picture
from ..shared.prompt_lines import caption_lines, prompt_lines
from ..shared.sockets import CATEGORY, CONCEPT_SET, TASK_VECTOR
from ..shared.widgets import socket
from .esd_settings import ESD_SETTINGS
from .published import ADAM_BYTES, STRENGTH_1, baseline_provenance

METHOD = "ESD (arXiv 2303.07345)"


class EsdNode:
    """Erased Stable Diffusion, arXiv 2303.07345."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        shown = (
            "Pictures of the concept, to which noise is added: quicker, but not the authors' way. "
            "Without, the model draws its noisy samples itself from `prompts`."
        )
        return {
            "required": {
                "model": socket("MODEL", "The base model."),
                "clip": socket("CLIP", "Its text encoder."),
                **ESD_SETTINGS,
            },
            "optional": {"concept_set": socket(CONCEPT_SET, shown)},
        }

    RETURN_TYPES = (TASK_VECTOR,)
    RETURN_NAMES = ("task_vector",)
    OUTPUT_TOOLTIPS = (STRENGTH_1,)
    FUNCTION = "erase"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "ESD (arXiv 2303.07345), a known eraser that learns to steer a prompt away from the "
        "concept. Needs no pictures. Here for comparison: it depends on the prompt and is easier "
        "to get around."
    )
    SEARCH_ALIASES = ["erased stable diffusion", "baseline", "unlearn"]

    def erase(
        self,
        model: Any,
        clip: Any,
        prompts: str,
        erase_from: str,
        width: int,
        height: int,
        sample_guidance: float,
        sample_steps: int,
        concept_set: ConceptSet | None = None,
        **widgets: Any,
    ) -> dict[str, Any]:
        from ...tverase_core.erasers.esd import EsdConfig, esd
        from ...tverase_core.erasers.teaching import esd_keys, from_latents, from_sampling
        from ..host.app.progress import NodeProgress
        from ..host.model.denoiser import open_denoiser, refuse_patched
        from ..host.model.own_pictures import require_own_pictures
        from ..host.model.weights import fingerprint, layout_of, trainable_shapes
        from ..host.network.latents import latent_shape
        from ..host.training.activations import gradient_bytes

        refuse_patched(model)
        config, named = EsdConfig(**widgets), prompt_lines(prompts)
        hosts = texts_to_erase_from(erase_from, named)
        if concept_set is not None:
            require_own_pictures(model, concept_set)
            shape: Sequence[int] = concept_set.latents.shape[1:]
        else:
            shape = latent_shape(model, height, width)
        concept, null, others = (encoded(model, clip, t) for t in (named, [""], hosts))
        layout, shapes = layout_of(model), trainable_shapes(model)
        trained = sum(shapes[key].numel() for key in esd_keys(shapes, layout, config.variant))
        activations = gradient_bytes(model, shape, concept, config.batch_size)
        needed = activations + trained * ADAM_BYTES
        with open_denoiser(model, needed, purpose="ESD") as denoiser:
            draw = (
                from_latents(denoiser, concept_set.latents)
                if concept_set is not None
                else from_sampling(denoiser, null, shape, sample_guidance, sample_steps)
            )
            told = NodeProgress()
            result = esd(denoiser, layout, concept, null, draw, config, told, erase_from=others)
            prediction = denoiser.schedule.prediction
        drawn = {} if concept_set else {"guidance": sample_guidance, "steps": sample_steps}
        recipe = {
            "method": METHOD,
            "prompts": prompts,
            "erase_from": list(hosts),
            "samples": drawn or "noised pictures",
            **widgets,
        }
        name = concept_set.concept if concept_set is not None else named[0]
        vector = TaskVector(
            result.deltas,
            fingerprint(model, prediction),
            baseline_provenance(name, "ESD", recipe, prediction),
        )
        return with_picture(loss_curve(result.losses, config.steps, "ESD"), "esd", (vector,))


def encoded(model: Any, clip: Any, texts: Sequence[str]) -> Any:
    """The Context of these texts, or None of none."""
    from ..host.model.conditioning import encode_texts, to_context

    return to_context(model, encode_texts(clip, texts)) if texts else None


def texts_to_erase_from(text: str, prompts: Sequence[str]) -> Sequence[str]:
    """One for each prompt, or none at all. Raises ConfigError for another number of lines."""
    if not text.strip():
        return []
    lines = caption_lines(text, prompts, "`erase_from`")
    return [*lines] * (len(prompts) // len(lines))
