"""ComfyUI in this process, with folders of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def own_folders(host: Any, base: Path) -> None:
    """Let ComfyUI read and write under `base` alone."""
    paths = host.folder_paths
    for kind in ("input", "output", "temp"):
        (base / kind).mkdir()
        getattr(paths, f"set_{kind}_directory")(str(base / kind))
    paths.models_dir = str(base / "models")
    for kind, (_, endings) in list(paths.folder_names_and_paths.items()):
        (base / "models" / kind).mkdir(parents=True, exist_ok=True)
        paths.folder_names_and_paths[kind] = ([str(base / "models" / kind)], endings)
