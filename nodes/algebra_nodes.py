"""Sums and simpler versions of task vectors."""

from __future__ import annotations

from typing import Any

from ..tverase_core.compression import approximate_low_rank
from ..tverase_core.errors import ConfigError, EmptyMaskError
from ..tverase_core.task_vector import TaskVector
from ..tverase_core.vector_algebra import cosine, orthogonalise
from .sockets import CATEGORY, TASK_VECTOR


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
                        "tooltip": "Largest rank of each matrix. Low ranks often harm less at "
                        "equal erasure, at a higher strength. 0: no limit.",
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
            }
        }

    RETURN_TYPES = (TASK_VECTOR, "STRING")
    RETURN_NAMES = ("task_vector", "report")
    OUTPUT_TOOLTIPS = ("The simpler vector.", "What it lost, and how small it is.")
    FUNCTION = "compress"
    CATEGORY = CATEGORY
    DESCRIPTION = "Replaces each matrix of a task vector by the nearest one of low rank."
    SEARCH_ALIASES = ["svd", "low rank", "extract lora", "shrink"]

    def compress(self, task_vector: TaskVector, rank: int, max_error: float) -> dict[str, Any]:
        if not rank and not max_error:
            raise ConfigError("Give a rank or a largest error; both are 0.")
        found = approximate_low_rank(task_vector, rank or None, max_error or None)
        used = sorted(found.ranks.values())
        ranks = f"ranks {used[0]} to {used[-1]}" if used else "no matrices"
        text = (
            f"{ranks}; lost {found.error:.1%} of the length of the vector; "
            f"{found.kept:.1%} of its numbers needed"
        )
        return {"ui": {"text": [text]}, "result": (found.vector, text)}


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
            }
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
    ) -> dict[str, Any]:
        made, likeness = combined(first, second, first_factor, second_factor, orthogonalise)
        if not len(made):
            raise EmptyMaskError("Nothing is left of the sum. Choose other factors.")
        text = (
            f"cosine of the two {likeness:.3f}; lengths {first.norm():.4g} and "
            f"{second.norm():.4g}, of the result {made.norm():.4g}"
        )
        return {"ui": {"text": [text]}, "result": (made, text)}


def combined(
    first: TaskVector, second: TaskVector, a: float, b: float, apart: bool
) -> tuple[TaskVector, float]:
    """(a * first + b * second, cosine of the two as given)."""
    likeness = cosine(first, second)
    part = orthogonalise(first, [second]) if apart else first
    return (part * a + second * b if b else part * a), likeness
