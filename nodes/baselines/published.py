"""What the neighbours' nodes share: a vector's account of what made it, sizes without pictures."""

from __future__ import annotations

from typing import Any

from ...tverase_core.vector.provenance import Provenance
from ..shared.widgets import Widgets, whole

ADAM_BYTES = 16  # a trained weight's delta, gradient and two moments, float32 each
STRENGTH_1 = "For Apply Negated TV: strength 1 is the method's own edit."


def size_widgets() -> Widgets:
    """Of what is drawn or made up where no pictures are connected."""
    size = "Without `concept_set`: picture {} in pixels, the size the model was trained on."
    return {
        "width": whole(512, (16, 4096), size.format("width"), step=8, advanced=True),
        "height": whole(512, (16, 4096), size.format("height"), step=8, advanced=True),
    }


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
