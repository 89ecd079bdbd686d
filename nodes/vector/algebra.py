"""Sums of task vectors."""

from __future__ import annotations

from typing import Any

from ...tverase_core.errors import EmptyMaskError
from ...tverase_core.model.block_mask import BlockMask
from ...tverase_core.model.layout import ModelLayout, detect_layout
from ...tverase_core.vector.algebra import cosine, orthogonalise
from ...tverase_core.vector.task_vector import TaskVector
from ..shared.node_output import with_text
from ..shared.sockets import BLOCK_MASK, CATEGORY, TASK_VECTOR
from ..shared.widgets import number, socket, switch


class CombineTaskVectors:
    """first * A + second * B."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        span = (-100.0, 100.0, 0.05)
        return {
            "required": {
                "first": socket(TASK_VECTOR, "One concept's vector."),
                "second": socket(TASK_VECTOR, "Another's, of the same base model."),
                "first_factor": number(1.0, span, "How much of the first."),
                "second_factor": number(1.0, span, "How much of the second."),
                "orthogonalise": switch(
                    False,
                    "Take out of the first what it shares with the second. With "
                    "second_factor 0 this protects the second's concept.",
                ),
            },
            "optional": {
                "first_mask": socket(BLOCK_MASK, "Take only these blocks of the first."),
                "second_mask": socket(BLOCK_MASK, "Take only these blocks of the second."),
            },
        }

    RETURN_TYPES = (TASK_VECTOR, "STRING")
    RETURN_NAMES = ("task_vector", "report")
    OUTPUT_TOOLTIPS = ("The sum.", "How alike the two are, and the lengths.")
    FUNCTION = "combine"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Adds two task vectors, to erase two concepts at once, or makes one orthogonal to another."
    )
    SEARCH_ALIASES = ["merge", "sum", "task arithmetic", "erase several"]

    def combine(
        self,
        first: TaskVector,
        second: TaskVector,
        first_factor: float,
        second_factor: float,
        orthogonalise: bool,
        first_mask: BlockMask | None = None,
        second_mask: BlockMask | None = None,
    ) -> dict[str, Any]:
        first, second = _masked(first, first_mask), _masked(second, second_mask)
        made, likeness = combined(first, second, first_factor, second_factor, orthogonalise)
        if not len(made):
            raise EmptyMaskError("Nothing is left of the sum. Choose other factors.")
        text = (
            f"cosine of the two {likeness:.3f}; lengths {first.norm():.4g} and "
            f"{second.norm():.4g}, of the result {made.norm():.4g}"
        )
        return with_text(text, (made, text))


def _masked(vector: TaskVector, mask: BlockMask | None) -> TaskVector:
    """The mask was made for a whole model: blocks that the vector lacks are none of its errors."""
    if mask is None:
        return vector
    layout = detect_layout(vector.deltas)
    whole = ModelLayout(layout.name, tuple(dict.fromkeys([*layout.names, *mask.blocks])))
    return vector.masked(mask, whole)


def combined(
    first: TaskVector, second: TaskVector, a: float, b: float, apart: bool
) -> tuple[TaskVector, float]:
    """(a * first + b * second, cosine of the two as given)."""
    likeness = cosine(first, second)
    part = orthogonalise(first, [second]) if apart else first
    return (part * a + second * b if b else part * a), likeness
