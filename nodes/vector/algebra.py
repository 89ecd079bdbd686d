"""Sums and simpler versions of task vectors."""

from __future__ import annotations

from typing import Any

from ...tverase_core.errors import ConfigError, EmptyMaskError
from ...tverase_core.model.block_mask import BlockMask
from ...tverase_core.model.layout import ModelLayout, detect_layout
from ...tverase_core.vector.algebra import cosine, orthogonalise
from ...tverase_core.vector.compression import approximate_low_rank, keep_top_blocks
from ...tverase_core.vector.task_vector import TaskVector
from ..shared.shown import with_text
from ..shared.sockets import BLOCK_MASK, CATEGORY, TASK_VECTOR


class CompressTaskVector:
    """Low rank per tensor."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "task_vector": (TASK_VECTOR, {"tooltip": "The vector to simplify."}),
                "rank": (
                    "INT",
                    {
                        "default": 4,
                        "min": 0,
                        "max": 4096,
                        "tooltip": "Largest rank of each matrix; makes the file small. To harm "
                        "less, train with a rank instead. 0: no limit.",
                    },
                ),
                "max_error": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 0.99,
                        "step": 0.01,
                        "tooltip": "The smallest rank whose relative error is not above this, "
                        "matrix by matrix. 0: the rank alone decides.",
                    },
                ),
            },
            "optional": {
                "top_blocks": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 1000,
                        "tooltip": "Keep only this many blocks, those that the vector changes "
                        "most. 0: all of them.",
                    },
                ),
            },
        }

    RETURN_TYPES = (TASK_VECTOR, "STRING")
    RETURN_NAMES = ("task_vector", "report")
    OUTPUT_TOOLTIPS = ("The simpler vector.", "What it lost, and how small it is.")
    FUNCTION = "compress"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Replaces each matrix of a task vector by the nearest one of low rank, and keeps only the "
        "blocks that change most."
    )
    SEARCH_ALIASES = ["svd", "low rank", "extract lora", "shrink"]

    def compress(
        self, task_vector: TaskVector, rank: int, max_error: float, top_blocks: int = 0
    ) -> dict[str, Any]:
        if not rank and not max_error and not top_blocks:
            raise ConfigError("Give a rank, a largest error or a number of blocks; all are 0.")
        vector, parts = task_vector, []
        if top_blocks:
            some = keep_top_blocks(vector, detect_layout(vector.deltas), top_blocks)
            vector = some.vector
            parts.append(f"blocks: lost {some.error:.1%} of the length, {some.kept:.1%} kept")
        if rank or max_error:
            from ..host.app.progress import NodeProgress

            limits = rank or None, max_error or None
            found = approximate_low_rank(vector, *limits, NodeProgress())
            vector, used = found.vector, sorted(found.ranks.values())
            ranks = f"ranks {used[0]} to {used[-1]}" if used else "no matrices"
            parts.append(
                f"{ranks}; lost {found.error:.1%} of the length of the vector; "
                f"{found.kept:.1%} of its numbers needed"
            )
        text = "; ".join(parts)
        return with_text(text, (vector, text))


class CombineTaskVectors:
    """first * A + second * B."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        factor = {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.05}
        return {
            "required": {
                "first": (TASK_VECTOR, {"tooltip": "One concept's vector."}),
                "second": (TASK_VECTOR, {"tooltip": "Another's, of the same base model."}),
                "first_factor": ("FLOAT", {**factor, "tooltip": "How much of the first."}),
                "second_factor": ("FLOAT", {**factor, "tooltip": "How much of the second."}),
                "orthogonalise": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": "Take out of the first what it shares with the second. With "
                        "second_factor 0 this protects the second's concept.",
                    },
                ),
            },
            "optional": {
                "first_mask": (
                    BLOCK_MASK,
                    {"tooltip": "Take only these blocks of the first."},
                ),
                "second_mask": (
                    BLOCK_MASK,
                    {"tooltip": "Take only these blocks of the second."},
                ),
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
