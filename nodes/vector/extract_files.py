"""Task vectors straight from model files."""

from __future__ import annotations

from typing import Any

from ...tverase_core.files.task_vector_file import load_task_vector
from ...tverase_core.vector.provenance import Provenance
from ...tverase_core.vector.task_vector import TaskVector
from ..host.app.file_kinds import TASK_VECTORS
from ..shared.node_output import with_text
from ..shared.saved_files import utc_now, vector_file_widgets
from ..shared.sockets import CATEGORY, TASK_VECTOR
from ..shared.widgets import choice, socket, text


class ExtractFromFiles:
    """tuned - base, read piece by piece from disk."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        from ..host.app.paths import LORA_FOLDERS, list_model_files

        files = list_model_files()
        return {
            "required": {
                "base_file": socket(
                    files,
                    "The model before it learned the concept: a checkpoint, or a "
                    "UNet or diffusion transformer alone, under ComfyUI's or diffusers' names.",
                ),
                "tuned_file": (
                    [*files, *list_model_files(LORA_FOLDERS)],
                    {"tooltip": "The model after, of the same family, or a LoRA made for it."},
                ),
                "concept": text(
                    "", "What the tuned model learned. Leave empty to take the name of its file."
                ),
                **vector_file_widgets("task_vectors/extracted"),
            },
            "optional": {
                "absent_weights": choice(
                    ["refuse", "unchanged"],
                    "What weights count as that tuned_file lacks. unchanged: for "
                    "files that hold edited weights alone, as UCE and ESD save them.",
                    default="refuse",
                ),
            },
        }

    RETURN_TYPES = (TASK_VECTOR, "STRING", "STRING")
    RETURN_NAMES = ("task_vector", "file", "report")
    OUTPUT_TOOLTIPS = (
        "The direction towards the concept. Apply Negated TV subtracts it.",
        "The file's place inside ComfyUI's output folder.",
        "What the two files were recognised as, and how many weights differ.",
    )
    FUNCTION = "extract"
    OUTPUT_NODE = True
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "The task vector of two model files, written to output/loras. The files are read piece by "
        "piece, so neither model is loaded."
    )
    SEARCH_ALIASES = ["subtract checkpoints", "difference of files", "extract lora", "streaming"]

    @classmethod
    def VALIDATE_INPUTS(cls, base_file: str | None, tuned_file: str | None) -> bool | str:
        """Files that came after the page was opened are accepted too. None is a value that another
        node gives; it is checked when it is there."""
        from ..host.app.paths import find_model_file

        try:
            for choice in (base_file, tuned_file):
                if choice is not None:
                    find_model_file(choice)
        except FileNotFoundError as missing:
            return str(missing)
        return True

    @classmethod
    def IS_CHANGED(cls, base_file: str | None, tuned_file: str | None, **_: Any) -> str | float:
        """Extract again when a file on disk is another one, and when nobody knows."""
        from ..host.app.paths import find_model_file

        if base_file is None or tuned_file is None:
            return float("nan")
        facts = [find_model_file(choice).stat() for choice in (base_file, tuned_file)]
        return " ".join(f"{each.st_mtime_ns} {each.st_size}" for each in facts)

    def extract(
        self,
        base_file: str,
        tuned_file: str,
        concept: str,
        filename_prefix: str,
        dtype: str,
        absent_weights: str = "refuse",
    ) -> dict[str, Any]:
        from ...tverase_core.files.extract import extract_between_files
        from ...tverase_core.files.lora.extract import extract_from_lora, is_lora_file
        from ..host.app.paths import find_model_file, may_map, new_file, output_relative
        from ..host.app.progress import NodeProgress

        base, tuned = find_model_file(base_file), find_model_file(tuned_file)
        # A name of bytes that are no text reaches us as halves of characters, which no file holds.
        name = concept.strip() or tuned.stem.encode(errors="replace").decode()
        provenance = Provenance(concepts=(name,), title=f"{name} task vector", created=utc_now())
        path = new_file(TASK_VECTORS, filename_prefix)
        common = {"dtype": dtype, "progress": NodeProgress()}
        if is_lora_file(tuned):
            made = extract_from_lora(base, tuned, path, provenance, **common)
        else:
            absent = {"absent": absent_weights, **common}
            made = extract_between_files(base, tuned, path, provenance, **absent)
        place = output_relative(path)
        report = "\n".join((f"base: {made.base}", f"tuned: {made.tuned}", made.sentence()))
        vector: TaskVector = load_task_vector(path, mapped=may_map())
        return with_text(f"{place}\n{report}", (vector, place, report))
