"""Folders of the user's pictures inside ComfyUI's input folder."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from .paths import can_be_path

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder itself, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in ENDINGS)


def list_image_folders() -> list[str]:
    """Folders in `input` that hold pictures, with forward slashes, sorted."""
    root = Path(folder_paths.get_input_directory())
    found = []
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if Path(place) != root and any(name.lower().endswith(ENDINGS) for name in files):
            found.append(Path(place).relative_to(root).as_posix())
    return sorted(found)


def find_image_folder(name: str) -> Path:
    """Full path of a folder in `input`. Raises FileNotFoundError with what to do."""
    root = Path(folder_paths.get_input_directory()).resolve()
    path = (root / name.replace("\\", "/")).resolve() if can_be_path(name) else root
    if not name.strip() or root not in path.parents or not path.is_dir():
        raise FileNotFoundError(
            f"No folder {name!r} in ComfyUI's input folder. Make one there, put pictures of the "
            "concept into it, press R and choose it."
        )
    return path
