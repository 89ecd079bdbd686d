"""Where files live: inside ComfyUI's own folders, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

TASK_VECTORS = "task_vectors"
SUFFIX = ".tv.safetensors"


def register_folders() -> None:
    """Let ComfyUI list task vectors: models/task_vectors and output/loras.

    A saved vector goes to output/loras, because the stock Load LoRA node looks there as well.
    """
    places = [
        os.path.join(folder_paths.models_dir, TASK_VECTORS),
        os.path.join(folder_paths.get_output_directory(), "loras"),
    ]
    known = folder_paths.folder_names_and_paths.get(TASK_VECTORS, ([], set()))[0]
    merged = [*known, *(p for p in places if p not in known)]
    folder_paths.folder_names_and_paths[TASK_VECTORS] = (merged, {".safetensors"})


def list_task_vectors() -> list[str]:
    """Names of the task-vector files that can be loaded, sorted."""
    return sorted(
        name for name in folder_paths.get_filename_list(TASK_VECTORS) if name.endswith(SUFFIX)
    )


def find_task_vector(name: str) -> Path:
    """Full path of a listed task vector. Raises FileNotFoundError with what to do."""
    found = folder_paths.get_full_path(TASK_VECTORS, name)
    if found is None:
        raise FileNotFoundError(
            f"No task vector {name!r} in models/{TASK_VECTORS} or output/loras. Press R to refresh "
            "the list, or save one with Save Task Vector."
        )
    return Path(found)


def new_task_vector_path(prefix: str) -> Path:
    """The next free file for `prefix` under output/loras (subfolders allowed, made when needed)."""
    root = os.path.join(folder_paths.get_output_directory(), "loras")
    os.makedirs(root, exist_ok=True)
    folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, root)
    while True:
        path = Path(folder) / f"{name}_{counter:05}_{SUFFIX}"
        if not path.exists():
            return path
        counter += 1


def output_relative(path: Path) -> str:
    """The path as people see it inside ComfyUI, with forward slashes and no machine names."""
    return path.relative_to(folder_paths.get_output_directory()).as_posix()


def temp_picture_path(prefix: str) -> tuple[Path, dict[str, str]]:
    """A new PNG in ComfyUI's temp folder, and the entry that shows it on a node."""
    root = folder_paths.get_temp_directory()
    os.makedirs(root, exist_ok=True)
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, root)
    file = f"{name}_{counter:05}_.png"
    while (Path(folder) / file).exists():
        counter += 1
        file = f"{name}_{counter:05}_.png"
    return Path(folder) / file, {"filename": file, "subfolder": subfolder, "type": "temp"}
