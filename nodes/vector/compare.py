"""How several task vectors get in one another's way."""

from __future__ import annotations

from typing import Any

from ...tverase_core.model.layout import detect_layout
from ...tverase_core.vector.interference import interference
from ...tverase_core.vector.task_vector import TaskVector
from ..pictures.figure import to_tensor
from ..pictures.interference_map import interference_map
from ..shared.node_output import with_pictures
from ..shared.sockets import CATEGORY, TASK_VECTOR
from ..shared.widgets import number, socket

PLACES = ("first", "second", "third", "fourth", "fifth")
VECTORS = {place: socket(TASK_VECTOR, f"The {place} concept's vector.") for place in PLACES}


class CompareTaskVectors:
    """Cosines by block, and what erasing one is predicted to take of the others."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {place: VECTORS[place] for place in PLACES[:2]},
            "optional": {
                **{place: VECTORS[place] for place in PLACES[2:]},
                "strength": number(
                    1.0,
                    (0.0, 100.0, 0.05),
                    "The strength each is erased at, for the predicted damage.",
                ),
            },
        }

    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("table", "report")
    OUTPUT_TOOLTIPS = ("The tables as a picture.", "One line for each pair.")
    FUNCTION = "compare"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Shows how alike task vectors are, block by block, and predicts from the weights alone "
        "how much of one concept goes when another is erased."
    )
    SEARCH_ALIASES = ["interference", "cosine", "collateral damage", "several concepts"]

    def compare(self, strength: float = 1.0, **given: TaskVector) -> dict[str, Any]:
        vectors = [given[place] for place in PLACES if given.get(place) is not None]
        layout = detect_layout(key for vector in vectors for key in vector.deltas)
        found = interference(vectors, layout, [strength] * len(vectors))
        picture, text = interference_map(found, layout.blocks()), found.to_text()
        pictures = {"interference": picture}
        return with_pictures(pictures, (to_tensor(picture), text), text)
