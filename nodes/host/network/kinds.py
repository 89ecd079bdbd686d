"""What kind of thing a MODEL draws, and whether from noise and text alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ....tverase_core.errors import BaseMismatchError
from .latents import has_time, with_time

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

# Classes of the host whose latents have an axis of time, and that draw one picture all the same.
_PICTURES = {"QwenImage", "CosmosPredict2", "Anima", "Krea2", "WAN21", "Kandinsky5Image"}
_SOUND = {"ACEStep", "ACEStep15", "StableAudio1", "StableAudio3", "MiniMaxMusic3"}
_ADVICE = (
    "Expected a text-to-image model. Extracting vectors works for this one, and so does applying "
    "them."
)
_ASKED = 8  # side of the latent that a model is asked about


def refuse_other_kinds(model: ModelPatcher) -> None:
    """Raise BaseMismatchError for models that draw no single picture, by what they are: video,
    sound, shapes in space."""
    name = type(model.model).__name__
    drawn = None
    if name in _SOUND:
        drawn = "sound"
    elif getattr(model.get_model_object("latent_format"), "latent_dimensions", 2) == 1:
        drawn = "no pictures"
    elif has_time(model) and name not in _PICTURES:
        drawn = "videos"
    if drawn is not None:
        raise BaseMismatchError(f"This MODEL makes {drawn} ({name}). {_ADVICE}")


def distilled_note(model: ModelPatcher) -> str:
    """A warning for models whose own make-up says that they are distilled to few steps, or "".
    Most distillates (Z-Image-Turbo, lightning LoRAs merged in) look like their base."""
    config = model.model.model_config
    if type(config).__name__ != "FluxSchnell" and not config.unet_config.get("meanflow"):
        return ""
    return (
        "Warning: this model is distilled to draw in few steps, and fine-tuning undoes that. Train "
        "on the base of its family (FLUX.1 dev or Chroma for schnell), and apply the task vector "
        "to this one with other_weights set to allow."
    )


def refuse_extra_inputs(model: ModelPatcher) -> None:
    """Raise BaseMismatchError for models that take a picture or a mask beside the noise, and what
    `refuse_other_kinds` raises."""
    refuse_other_kinds(model)
    network = model.model.diffusion_model
    wanted = model.get_model_object("latent_format").latent_channels
    extra = ", ".join(getattr(model.model, "concat_keys", ()))
    taken = network.in_channels if isinstance(network, UNetModel) else wanted
    if not extra and taken == wanted:
        noise = with_time(model, torch.zeros(1, wanted, _ASKED, _ASKED))
        beside = model.model.concat_cond(noise=noise, device=noise.device)
        taken += 0 if beside is None else beside.shape[1]
    if taken != wanted or extra:
        named = f" ({extra.replace('_', ' ')})" if extra else ""
        raise BaseMismatchError(
            f"This MODEL takes a picture beside the noise{named}: its network has {taken} input "
            f"channels, its latents have {wanted}. It is made for inpainting, editing or "
            "upscaling; expected a text-to-image model. Load the text-to-image checkpoint of the "
            "family. Extracting vectors works for this one, and so does applying them: those of "
            "the text-to-image model with other_weights set to allow."
        )
