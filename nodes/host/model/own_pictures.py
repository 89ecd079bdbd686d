"""Whether a concept set belongs to a MODEL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....tverase_core.concept_set import ConceptSet
from ....tverase_core.errors import BaseMismatchError
from ..network.kinds import refuse_extra_inputs
from .conditioning import text_width

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def require_own_pictures(model: ModelPatcher, pictures: ConceptSet) -> None:
    """Raise BaseMismatchError when the concept set was made with a model of another family, and
    for a model that no concept set can be for: one that wants more than noise and text."""
    refuse_extra_inputs(model)
    wanted = (model.get_model_object("latent_format").latent_channels, text_width(model))
    got = (pictures.latents.shape[1], pictures.contexts.tokens.shape[-1])
    if any(mine is not None and mine != theirs for mine, theirs in zip(wanted, got, strict=True)):
        raise BaseMismatchError(
            f"The concept set was made with another model: it has {got[0]} latent channels and "
            f"texts of width {got[1]}, this MODEL takes {wanted[0]} and {wanted[1]}. Connect the "
            "same MODEL and CLIP to the concept set as to this node."
        )
