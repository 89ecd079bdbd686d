"""Erase: subtract the task vector. And see what it did."""

from __future__ import annotations

from typing import Any

import torch

from ...tverase_core.errors import ShapeMismatchError
from ...tverase_core.model.block_mask import BlockMask
from ...tverase_core.vector.erase import signed_scale, subtracted
from ...tverase_core.vector.task_vector import TaskVector
from ..pictures.compare import compare_grid
from ..pictures.figure import to_tensor
from ..shared.node_output import with_picture, with_text
from ..shared.rgb import rgb
from ..shared.sockets import BLOCK_MASK, CATEGORY, TASK_VECTOR
from ..shared.whole_lists import TakesLists, one_batch
from ..shared.widgets import PRECISION, choice, number, socket, text, whole


class ApplyNegatedTV:
    """base - strength * mask * task vector, as patches on a clone."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": socket("MODEL", "The model to edit. It is not changed itself."),
                "task_vector": socket(TASK_VECTOR, "The concept's task vector."),
                "strength": number(
                    1.0,
                    (0.0, 100.0, 0.01),
                    "How much is subtracted (alpha). 0 changes nothing; the paper's "
                    "scripts use 1.75. Too much harms everything else.",
                ),
                "other_weights": choice(
                    ["refuse", "allow"],
                    "What to do when the model has the right architecture but other "
                    "weights than the vector was made from, for example a merge.",
                    default="refuse",
                    advanced=True,
                ),
            },
            "optional": {
                "block_mask": socket(
                    BLOCK_MASK, "Edit only these blocks. Not connected: all of them."
                ),
                "precision": PRECISION,
            },
        }

    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("erased",)
    OUTPUT_TOOLTIPS = ("The model with the concept suppressed. Connect to a KSampler.",)
    FUNCTION = "apply"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Subtracts a concept's task vector from the model. Every weight of the vector must fit, "
        "or nothing is changed. Strength 0 returns the very same model. Says so when rounding to "
        "the model's number format would spoil the edit."
    )
    SEARCH_ALIASES = ["erase", "unlearn", "remove concept", "forget concept", "negative lora"]

    def apply(
        self,
        model: Any,
        task_vector: TaskVector,
        strength: float,
        other_weights: str,
        block_mask: BlockMask | None = None,
        precision: str = "patch",
    ) -> tuple[Any] | dict[str, Any]:
        from ..host.model.edits import checked_deltas, what_base
        from ..host.model.exact import edited_clone

        if signed_scale(strength) == 0:
            return (model,)
        allow = other_weights == "allow"
        deltas = checked_deltas(model, task_vector, block_mask, allow_other_weights=allow)
        edited, note = edited_clone(model, subtracted(deltas, strength), precision)
        text = "\n".join(filter(None, [what_base(model, task_vector), note]))
        return with_text(text, (edited,)) if text else (edited,)


class BeforeAfterGrid(TakesLists):
    """Two batches of pictures, row under row."""

    RUN = "draw"
    LISTS = ("before", "after")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "before": socket("IMAGE", "Pictures of the base model."),
                "after": socket("IMAGE", "Pictures of the erased model at the same seeds."),
                "title": text("", "Written over the rows, for example the prompt."),
                "columns": whole(8, (1, 64), "Pictures in a row."),
            }
        }

    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("grid",)
    OUTPUT_TOOLTIPS = ("Both rows as one picture.",)
    CATEGORY = CATEGORY
    DESCRIPTION = "Shows pictures before and after erasing, at equal seeds, one under the other."
    SEARCH_ALIASES = ["compare", "grid", "preview"]

    def draw(
        self, before: list[torch.Tensor], after: list[torch.Tensor], title: str, columns: int
    ) -> dict[str, Any]:
        before, after = (
            one_batch(name, [rgb(name, batch) for batch in batches])
            for name, batches in (("before", before), ("after", after))
        )
        if before.shape[1:3] != after.shape[1:3]:
            raise ShapeMismatchError(
                f"before has pictures of {tuple(before.shape[1:3])}, after of "
                f"{tuple(after.shape[1:3])}. Draw both at the same size.",
                "after",
                before.shape,
                after.shape,
            )
        head = f"{title}: " if title else ""
        rows = [(f"{head}before", before), (f"{head}after", after)]
        picture = compare_grid(rows, columns)
        return with_picture(picture, "compare", (to_tensor(picture),))
