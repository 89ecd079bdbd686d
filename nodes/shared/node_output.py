"""What a node returns when it shows a picture of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from PIL import Image


def with_picture(picture: Image.Image, name: str, result: tuple[Any, ...]) -> dict[str, Any]:
    """The node's outputs together with a PNG in ComfyUI's temp folder that the node displays."""
    return with_pictures({name: picture}, result)


def with_text(text: str, result: tuple[Any, ...]) -> dict[str, Any]:
    """The node's outputs together with text that the node displays."""
    from ..host.app.progress import show_text

    show_text(broken_at_folders(text))
    return {"ui": {"text": [text]}, "result": result}


def broken_at_folders(text: str) -> str:
    """The text with a file's name on a line of its own: a node would break it in mid-word."""
    return re.sub(r"(\w/)(?=[^\s/]+\.\w+)", r"\1\n", text)


def with_pictures(
    pictures: Mapping[str, Image.Image], result: tuple[Any, ...], text: str = ""
) -> dict[str, Any]:
    """The same with several pictures, by name, and text."""
    from ..host.app.paths import temp_picture_path
    from ..host.app.progress import show_text

    entries = []
    for name, picture in pictures.items():
        path, entry = temp_picture_path(f"tverase_{name}")
        picture.save(path)
        entries.append(entry)
    ui: dict[str, Any] = {"images": entries}
    if text:
        show_text(text)
        ui["text"] = [text]
    return {"ui": ui, "result": result}
