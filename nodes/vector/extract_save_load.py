"""Make, save and load task vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...tverase_core.errors import listed
from ...tverase_core.files.compact import save_compact
from ...tverase_core.files.task_vector_file import load_task_vector, save_task_vector
from ...tverase_core.vector.pruned import PRUNED
from ...tverase_core.vector.task_vector import TaskVector
from ..host.app.file_kinds import TASK_VECTORS
from ..shared.node_output import with_text
from ..shared.saved_files import ReadsFile, utc_now, vector_file_widgets
from ..shared.sockets import CATEGORY, TASK_VECTOR
from ..shared.widgets import number, socket, text


class ExtractTaskVector:
    """tuned - base."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "base": socket("MODEL", "The model before it learned the concept."),
                "tuned": socket(
                    "MODEL",
                    "The model after: from Concept Fine-tune, another checkpoint, "
                    "or the base with a LoRA of the concept loaded.",
                ),
                "concept": text(
                    "",
                    "What the tuned model learned. Leave empty to take the name "
                    "from Concept Fine-tune.",
                ),
            }
        }

    RETURN_TYPES = (TASK_VECTOR,)
    RETURN_NAMES = ("task_vector",)
    OUTPUT_TOOLTIPS = ("The direction towards the concept. Apply Negated TV subtracts it.",)
    FUNCTION = "extract"
    CATEGORY = CATEGORY
    DESCRIPTION = "The task vector of a concept: tuned weights minus base weights, in float32."
    SEARCH_ALIASES = ["subtract models", "difference", "task arithmetic"]

    def extract(self, base: Any, tuned: Any, concept: str) -> tuple[TaskVector]:
        from ..host.app.progress import NodeProgress, show_text
        from ..host.model.extraction import deltas_between
        from ..host.model.weights import fingerprint
        from ..host.network.schedule import prediction_of
        from ..host.training.session import provenance_of

        found = deltas_between(base, tuned, NodeProgress())
        known = provenance_of(tuned)
        name = concept.strip() or (known.concepts[0] if known.concepts else "concept")
        provenance = replace(
            known,
            concepts=(name,),
            title=f"{name} task vector",
            prediction=prediction_of(base),
            content=PRUNED if found.pruned else known.content,
        )
        words = f"task vector of {name!r}: {len(found.deltas)} weights differ"
        if found.still:
            words += f"; patches on {len(found.still)} others move nothing ({listed(found.still)})"
        show_text(" ".join(filter(None, (f"{words}.", found.rounding.sentence()))))
        return (TaskVector(found.deltas, fingerprint(base), provenance),)


class SaveTaskVector:
    """Writes a file that the stock Load LoRA node reads as well."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "task_vector": socket(TASK_VECTOR, "What to save."),
                **vector_file_widgets("task_vectors/concept"),
            },
            "optional": {
                "max_error": number(
                    0.0,
                    (0.0, 0.99, 0.01),
                    "0 saves everything. Above 0 each matrix is stored as two thin "
                    "ones whose relative error is not above this: a far smaller file that Load "
                    "LoRA reads as well.",
                    advanced=True,
                ),
            },
        }

    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("file",)
    OUTPUT_TOOLTIPS = ("The file's place inside ComfyUI's output folder.",)
    FUNCTION = "save"
    OUTPUT_NODE = True
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Saves a task vector to output/loras. Load it with Load Task Vector, or with the stock "
        "Load LoRA node at a negative strength: that erases without this pack."
    )
    SEARCH_ALIASES = ["save lora", "export", "share"]

    def save(
        self, task_vector: TaskVector, filename_prefix: str, dtype: str, max_error: float = 0.0
    ) -> dict[str, Any]:
        from ..host.app.paths import new_file, output_relative
        from ..host.app.progress import NodeProgress

        provenance = replace(task_vector.provenance, created=utc_now())
        dated = replace(task_vector, provenance=provenance)
        path = new_file(TASK_VECTORS, filename_prefix)
        place = output_relative(path)
        if not max_error:
            save_task_vector(path, dated, dtype=dtype)  # type: ignore[arg-type]
            return with_text(place, (place,))
        made = save_compact(
            path,
            dated,
            max_error,
            dtype=dtype,  # type: ignore[arg-type]
            progress=NodeProgress(),
        )
        return with_text(f"{place}: {made.sentence()}", (place,))


class LoadTaskVector(ReadsFile):
    """Reads a task-vector file."""

    KIND = TASK_VECTORS

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        from ..host.app.paths import list_files

        return {
            "required": {
                "file": (
                    list_files(TASK_VECTORS),
                    {
                        "tooltip": "A .tv.safetensors file in models/task_vectors or output/loras. "
                        "Press R to refresh the list."
                    },
                ),
            }
        }

    RETURN_TYPES = (TASK_VECTOR,)
    RETURN_NAMES = ("task_vector",)
    OUTPUT_TOOLTIPS = ("The task vector in the file.",)
    FUNCTION = "load"
    CATEGORY = CATEGORY
    DESCRIPTION = "Loads a task vector that you saved or downloaded."
    SEARCH_ALIASES = ["load lora", "import"]

    def load(self, file: str) -> tuple[TaskVector]:
        from ..host.app.paths import find_file, may_map

        return (load_task_vector(find_file(self.KIND, file), mapped=may_map()),)
