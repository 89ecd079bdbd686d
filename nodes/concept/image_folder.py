"""A folder of pictures as one batch of one size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ...tverase_core.errors import ConfigError, EmptyConceptSetError
from ..shared.sockets import CATEGORY
from ..shared.widgets import choice, whole

SHIPPED = "demo: cats"
SHIPPED_FOLDER = Path(__file__).resolve().parents[2] / "demo" / "pictures" / "cats"


def folder_of(name: str) -> Path:
    """The folder behind a choice of the list. Raises FileNotFoundError."""
    from ..host.app.image_folders import find_image_folder

    return SHIPPED_FOLDER if name == SHIPPED else find_image_folder(name)


def fitted(path: Path, width: int, height: int) -> torch.Tensor:
    """The middle of the picture at that size: float32 [height, width, 3] in 0..1.

    Transparent parts become white. Raises ConfigError for a file that is no picture.
    """
    try:
        with Image.open(path) as opened:
            turned = _eight_bit(ImageOps.exif_transpose(opened)).convert("RGBA")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as broken:
        raise ConfigError(
            f"{path.name} cannot be read as a picture ({broken}). Take it out of the folder, or "
            "save it again as PNG, smaller if it is very large."
        ) from broken
    flat = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned).convert("RGB")
    picture = ImageOps.fit(flat, (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Deep grey (16 bits, floats) as 8 bits; Pillow's own conversion cuts off what is over 255."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture, dtype=np.float32)
    largest = float(values.max())
    # Floats say by their largest value what white is; older versions of Pillow call 16 bits "I".
    whites = (1, 255, 65535) if picture.mode == "F" else (65535,)
    white = next((white for white in whites if largest <= white), largest)
    return Image.fromarray((values * (255 / white)).round().clip(0, 255).astype(np.uint8))


class LoadImageFolder:
    """All pictures of a folder."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        from ..host.app.image_folders import list_image_folders

        return {
            "required": {
                "folder": choice(
                    [SHIPPED, *list_image_folders()],
                    "A folder inside ComfyUI's input folder. Put 20 to 200 pictures "
                    f"of the concept there and press R. '{SHIPPED}' ships with the pack.",
                    default=SHIPPED,
                ),
                "width": whole(
                    512, (16, 4096), "Width that all pictures are fitted to, in pixels.", step=8
                ),
                "height": whole(
                    512,
                    (16, 4096),
                    "Height that all pictures are fitted to: the middle is kept, the longer sides "
                    "are cut.",
                    step=8,
                ),
                "most": whole(
                    200,
                    (1, 4096),
                    "Take so many pictures at most, in the order of their names.",
                    advanced=True,
                ),
            }
        }

    RETURN_TYPES = ("IMAGE", "INT")
    RETURN_NAMES = ("images", "count")
    OUTPUT_TOOLTIPS = (
        "The pictures as one batch, for Concept Set from Images.",
        "How many pictures there are.",
    )
    FUNCTION = "load"
    CATEGORY = CATEGORY
    DESCRIPTION = "Loads all pictures of a folder and fits them to one size, as one batch."
    SEARCH_ALIASES = ["load images", "image directory", "batch from folder", "dataset"]

    @classmethod
    def VALIDATE_INPUTS(cls, folder: str | None) -> bool | str:
        """Folders made after the page was opened are accepted too. None is a value that another
        node gives; it is checked when it is there."""
        if folder is None:
            return True
        try:
            folder_of(folder)
        except FileNotFoundError as missing:
            return str(missing)
        return True

    @classmethod
    def IS_CHANGED(cls, folder: str | None, **_: Any) -> str | float:
        """Load again when a file was added, taken out or changed, and when nobody knows."""
        from ..host.app.image_folders import pictures_in

        if folder is None:
            return float("nan")
        facts = [(p.name, p.stat()) for p in pictures_in(folder_of(folder))]
        return " ".join(f"{name} {s.st_mtime_ns} {s.st_size}" for name, s in facts)

    def load(self, folder: str, width: int, height: int, most: int) -> tuple[torch.Tensor, int]:
        from ..host.app.image_folders import ENDINGS, pictures_in
        from ..host.app.progress import NodeProgress

        found = pictures_in(folder_of(folder))[:most]
        if not found:
            raise EmptyConceptSetError(
                f"The folder {folder!r} holds no pictures ({', '.join(ENDINGS)}). Put pictures of "
                "the concept into it."
            )
        progress, loaded = NodeProgress(), []
        for path in found:
            progress(len(loaded), len(found), f"picture {len(loaded) + 1} of {len(found)}")
            loaded.append(fitted(path, width, height))
        progress(len(loaded), len(found))
        return torch.stack(loaded), len(loaded)
