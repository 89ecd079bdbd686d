"""Inversion sets on disk, and as embeddings that prompts can name."""

from __future__ import annotations

from typing import Any

from ...tverase_core.inversion.files import (
    export_embeddings,
    load_inversion_set,
    prompt_of,
    save_inversion_set,
)
from ...tverase_core.inversion.inversion_set import InversionSet
from ..host.app.file_kinds import INVERSION_SETS
from ..shared.node_output import with_text
from ..shared.saved_files import ReadsFile, utc_now
from ..shared.sockets import CATEGORY, INVERSION_SET
from ..shared.widgets import socket, text
from .output import inversions_text


def _architecture(inversions: InversionSet) -> str:
    """The ModelSpec id that the text encoder's widths belong to."""
    by_widths = {
        (("l", 768),): "stable-diffusion-v1",
        (("h", 1024),): "stable-diffusion-v2-768-v",
        (("g", 1280), ("l", 768)): "stable-diffusion-xl-v1-base",
    }
    widths = tuple(sorted(inversions.widths().items()))
    named = "-".join(f"{tower}{width}" for tower, width in widths)
    return by_widths.get(widths, f"text-encoder-{named}")


class SaveInversionSet:
    """Writes an inversion-set file."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "inversion_set": socket(INVERSION_SET, "What to save."),
                "filename_prefix": text(
                    "concept", "Folder and name under output/inversion_sets; a number is added."
                ),
            }
        }

    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("file",)
    OUTPUT_TOOLTIPS = ("The file's place inside ComfyUI's output folder.",)
    FUNCTION = "save"
    OUTPUT_NODE = True
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Saves the embeddings of Diverse Inversion to output/inversion_sets. They evoke the "
        "concept on the base model: share them with care."
    )
    SEARCH_ALIASES = ["export", "textual inversion"]

    def save(self, inversion_set: InversionSet, filename_prefix: str) -> dict[str, Any]:
        from ..host.app.paths import new_file, output_relative

        path = new_file(INVERSION_SETS, filename_prefix)
        save_inversion_set(path, inversion_set, _architecture(inversion_set), utc_now())
        place = output_relative(path)
        return with_text(place, (place,))


class LoadInversionSet(ReadsFile):
    """Reads an inversion-set file."""

    KIND = INVERSION_SETS

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        from ..host.app.paths import list_files

        return {
            "required": {
                "file": (
                    list_files(INVERSION_SETS),
                    {
                        "tooltip": "A .inversions.safetensors file in models/inversion_sets or "
                        "output/inversion_sets. Press R to refresh the list."
                    },
                ),
            }
        }

    RETURN_TYPES = (INVERSION_SET, "STRING")
    RETURN_NAMES = ("inversion_set", "report")
    OUTPUT_TOOLTIPS = ("The embeddings in the file.", "What the file holds.")
    FUNCTION = "load"
    CATEGORY = CATEGORY
    DESCRIPTION = "Loads embeddings that Diverse Inversion found, for the same text encoder."
    SEARCH_ALIASES = ["import", "textual inversion"]

    def load(self, file: str) -> tuple[InversionSet, str]:
        from ..host.app.paths import find_file

        found = load_inversion_set(find_file(self.KIND, file))
        return found, inversions_text(found)


class ExportEmbeddings:
    """Native embeddings of the host."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "inversion_set": socket(INVERSION_SET, "The embeddings to export."),
                "name": text(
                    "concept",
                    "Letters, digits, - and _. Files are named name-00, name-01, "
                    "... and replaced when they exist.",
                ),
            }
        }

    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("prompts",)
    OUTPUT_TOOLTIPS = ("One prompt a line, such as 'a embedding:concept-00'.",)
    FUNCTION = "export"
    OUTPUT_NODE = True
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Writes each embedding to models/embeddings, so that the stock CLIP Text Encode uses it by "
        "`embedding:name`: to attack an erased model by hand."
    )
    SEARCH_ALIASES = ["textual inversion", "save embedding"]

    def export(self, inversion_set: InversionSet, name: str) -> dict[str, Any]:
        from ..host.app.paths import embeddings_folder

        folder = embeddings_folder()
        folder.mkdir(parents=True, exist_ok=True)
        names = export_embeddings(
            folder, name.strip(), inversion_set, _architecture(inversion_set), utc_now()
        )
        text = "\n".join(prompt_of(inversion_set.template, name) for name in names)
        return with_text(text, (text,))
