"""CONDITIONING of the host <-> Context of the core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ....tverase_core.errors import BaseMismatchError, TextWidthError
from ....tverase_core.ports import Context, joined
from ..text.tokens import tokens_of

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def encode_texts(clip: Any, texts: Sequence[str]) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """(context [1, s, d], pooled [1, p] or None) of each text, by the user's CLIP."""
    encoded = []
    for text in texts:
        tokens, pooled = clip.encode_from_tokens(tokens_of(clip, text), return_pooled=True)
        encoded.append((tokens, pooled))
    return encoded


def to_context(
    model: ModelPatcher, encoded: Sequence[tuple[torch.Tensor, Any]], latent_shape: Sequence[int]
) -> Context:
    """Rows that this model's denoiser takes, SDXL's pooled and size conditioning included.

    encoded: per item (context [1, s, d], pooled); latent_shape: (c, h, w) of one latent.
    """
    return joined(*(rows_of(model, row, pooled, latent_shape) for row, pooled in encoded))


def rows_of(
    model: ModelPatcher, context: torch.Tensor, pooled: Any, latent_shape: Sequence[int]
) -> Context:
    """The same for n rows at once; gradients flow to context [n, s, d] and pooled [n, p].

    Raises TextWidthError when the CLIP belongs to another family than the model,
    BaseMismatchError when the model wants more than noise and text.
    """
    refuse_extra_inputs(model)
    wanted = model.model.model_config.unet_config.get("context_dim")
    if wanted is not None and context.shape[-1] != wanted:
        raise TextWidthError(
            f"This CLIP gives texts of width {context.shape[-1]}, the MODEL takes {wanted}. "
            "Connect the CLIP of the same checkpoint as the MODEL."
        )
    made = model.model.extra_conds(
        cross_attn=context,
        pooled_output=pooled,
        noise=torch.zeros((1, *latent_shape)),
        device=torch.device("cpu"),
        width=latent_shape[-1] * 8,
        height=latent_shape[-2] * 8,
        prompt_type="positive",
    )
    extra = {name: made[name].cond.clone() for name in made if name not in ("c_crossattn",)}
    return Context(context.clone().float(), extra)


def refuse_extra_inputs(model: ModelPatcher) -> None:
    """Raise BaseMismatchError for models that take a picture or a mask beside the noise.

    Only UNets are counted: other families name by `in_channels` what a patch of latents holds.
    """
    network = model.model.diffusion_model
    wanted = model.get_model_object("latent_format").latent_channels
    taken = network.in_channels if isinstance(network, UNetModel) else wanted
    extra = ", ".join(getattr(model.model, "concat_keys", ()))
    if taken != wanted or extra:
        beside = f" ({extra.replace('_', ' ')})" if extra else ""
        raise BaseMismatchError(
            f"This MODEL takes a picture beside the noise{beside}: its network has {taken} input "
            f"channels, its latents have {wanted}. It is made for inpainting, editing or "
            "upscaling; expected a text-to-image model. Load the text-to-image checkpoint of the "
            "family. Extracting vectors works for this one, and so does applying them: those of "
            "the text-to-image model with other_weights set to allow."
        )
