"""What a node returns when it shows a picture of its own."""

from __future__ import annotations

from typing import Any

from PIL import Image


def with_picture(picture: Image.Image, name: str, result: tuple[Any, ...]) -> dict[str, Any]:
    """The node's outputs together with a PNG in ComfyUI's temp folder that the node displays."""
    from .host.paths import temp_picture_path

    path, entry = temp_picture_path(f"tverase_{name}")
    picture.save(path)
    return {"ui": {"images": [entry]}, "result": result}
