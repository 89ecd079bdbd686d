"""Whether a concept set, or an edited MODEL, belongs to a MODEL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....tverase_core.concept_set import ConceptSet
from ....tverase_core.errors import BaseMismatchError
from ....tverase_core.model.fingerprint import describe
from ..network.kinds import refuse_extra_inputs
from .conditioning import text_width
from .weights import fingerprint, model_shapes

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

FAR = 0.5  # unrelated models are about 1.4 apart, a model and an edit of it some hundredths


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


def base_difference(model: ModelPatcher, base: ModelPatcher) -> float | None:
    """How far the stored weights of two MODELs are apart, patches aside, by a sample; None when
    both hold the same. Raises BaseMismatchError when the one cannot be an edit of the other."""
    mine, theirs = fingerprint(model), fingerprint(base)
    verdict = theirs.compare(mine)
    apart = theirs.apart(mine, model_shapes(base))
    if verdict == "different_architecture" or (apart is not None and apart > FAR):
        how = "" if apart is None else f", and its weights are {apart:.0%} apart from that one's"
        raise BaseMismatchError(
            f"`model` is {describe(mine)}, `base` is {describe(theirs)}{how}: the one cannot be an "
            "edit of the other. Connect the MODEL that `model` was made from to `base`."
        )
    return apart if verdict == "different_weights" else None
