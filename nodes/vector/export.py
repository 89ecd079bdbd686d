"""An erased model for other tools."""

from __future__ import annotations

from typing import Any

from ..shared.node_output import with_text
from ..shared.sockets import CATEGORY
from ..shared.widgets import socket, text


class ExportUNet:
    """The UNet under diffusers' names."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": socket("MODEL", "The erased model, precision 'patch'."),
                "filename_prefix": text(
                    "diffusers/erased_unet", "Folder and name under ComfyUI's output folder."
                ),
            }
        }

    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("file",)
    OUTPUT_TOOLTIPS = ("The file's place inside ComfyUI's output folder.",)
    FUNCTION = "export"
    OUTPUT_NODE = True
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Writes the model's UNet with diffusers' names for its weights, for tools that read those. "
        "For ComfyUI itself use the stock Save Checkpoint or Save Model."
    )
    SEARCH_ALIASES = ["diffusers", "save unet", "diffusion_pytorch_model"]

    def export(self, model: Any, filename_prefix: str) -> dict[str, Any]:
        from ..host.app.paths import output_relative
        from ..host.model.export import export_unet

        place = output_relative(export_unet(model, filename_prefix))
        return with_text(place, (place,))
