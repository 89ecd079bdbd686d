"""Where files live: inside ComfyUI's own folders, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

import comfy.utils
import folder_paths

from ....tverase_core.errors import ConfigError
from ....tverase_core.storage.new_file import is_plain_name
from .file_kinds import INVERSION_SETS, TASK_VECTORS

SUFFIX, INVERSIONS_SUFFIX = ".tv.safetensors", ".inversions.safetensors"
# Saved vectors go where the stock Load LoRA node looks as well.
OUTPUT_FOLDERS = {TASK_VECTORS: "loras", INVERSION_SETS: INVERSION_SETS}
SUFFIXES = {TASK_VECTORS: SUFFIX, INVERSION_SETS: INVERSIONS_SUFFIX}
# Where models lie that a task vector can be extracted from, and how their files end.
MODEL_FOLDERS = ("checkpoints", "diffusion_models")
LORA_FOLDERS = ("loras",)
MODEL_SUFFIXES = (".safetensors", ".sft", ".ckpt")  # the last is refused, with what to do
LONGEST_PATH = 1000  # letters of a name with its folders; macOS takes 1024 bytes of a whole path
NAMES = {TASK_VECTORS: "task vector", INVERSION_SETS: "inversion set"}


def register_folders() -> None:
    """Let ComfyUI list our files: models/task_vectors and output/loras, models/inversion_sets and
    output/inversion_sets."""
    for kind, output in OUTPUT_FOLDERS.items():
        places = [
            os.path.join(folder_paths.models_dir, kind),
            os.path.join(folder_paths.get_output_directory(), output),
        ]
        known = folder_paths.folder_names_and_paths.get(kind, ([], set()))[0]
        merged = [*known, *(p for p in places if p not in known)]
        folder_paths.folder_names_and_paths[kind] = (merged, {".safetensors"})


def list_files(kind: str) -> list[str]:
    """Names of the files of a kind that can be loaded, sorted."""
    found = folder_paths.get_filename_list(kind)
    return sorted(name for name in found if name.endswith(SUFFIXES[kind]))


def find_file(kind: str, name: str) -> Path:
    """Full path of a listed file. Raises FileNotFoundError with what to do."""
    found = folder_paths.get_full_path(kind, name) if can_be_path(name) else None
    if found is None:
        what = NAMES[kind]
        raise FileNotFoundError(
            f"No {what} {name!r} in models/{kind} or output/{OUTPUT_FOLDERS[kind]}. Press R to "
            f"refresh the list, or save one with Save {what.title()}."
        )
    return Path(found)


def list_model_files(folders: Sequence[str] = MODEL_FOLDERS) -> list[str]:
    """Model files as "checkpoints/name.safetensors", sorted by folder and name."""
    return [
        f"{kind}/{name}".replace("\\", "/")
        for kind in folders
        if kind in folder_paths.folder_names_and_paths
        for name in sorted(folder_paths.get_filename_list(kind))
        if name.lower().endswith(MODEL_SUFFIXES) and not name.endswith(SUFFIX)
    ]


def find_model_file(choice: str) -> Path:
    """Full path of a listed model file. Raises FileNotFoundError with what to do."""
    kind, _, name = choice.replace("\\", "/").partition("/")
    known = kind in (*MODEL_FOLDERS, *LORA_FOLDERS) and kind in folder_paths.folder_names_and_paths
    # What is listed is there, though its name may be no text (half characters stand for bytes).
    known = known and (can_be_path(name) or name in folder_paths.get_filename_list(kind))
    found = folder_paths.get_full_path(kind, name) if known else None
    if found is None:
        raise FileNotFoundError(
            f"No model file {choice!r}. Put it into models/checkpoints or "
            "models/diffusion_models, press R to refresh the list and choose it."
        )
    return Path(found)


def new_file(kind: str, prefix: str) -> Path:
    """The next free file for `prefix` in the output folder of a kind (subfolders are made).

    Raises ConfigError when the prefix, read as on any system, leads out of that folder.
    """
    _refuse_outside(kind, prefix, "filename_prefix", "vectors/cat")
    root = os.path.join(folder_paths.get_output_directory(), OUTPUT_FOLDERS[kind])
    os.makedirs(root, exist_ok=True)
    folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, root)
    while True:
        path = Path(folder) / f"{name}_{counter:05}_{SUFFIXES[kind]}"
        if not path.exists():
            return path
        counter += 1


def list_folder(kind: str, name: str) -> Path:
    """A folder of that name in the output folder of a kind, made if it is not there.

    Raises ConfigError when the name leads out of it.
    """
    _refuse_outside(kind, name, "output", "my_list")
    path = Path(folder_paths.get_output_directory(), OUTPUT_FOLDERS[kind], *_parts(name).parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


def _parts(name: str) -> PureWindowsPath:
    return PureWindowsPath(name)  # takes both kinds of slash


def can_be_path(name: str) -> bool:
    """Whether file systems can hold a file of that name in some folder. Asked for another, Python
    raises errors of its own, which say nothing to people."""
    parts = _parts(name).parts
    return 0 < len(name) <= LONGEST_PATH and all(map(is_plain_name, parts))


def _refuse_outside(kind: str, name: str, what: str, example: str) -> None:
    parts = _parts(name)
    if parts.anchor or ".." in parts.parts:
        raise ConfigError(
            f"{what} {name!r} leads outside output/{OUTPUT_FOLDERS[kind]}. Write a name, or "
            f"folders inside it and a name, such as {example!r}."
        )
    if not can_be_path(f"{name}_00000_{SUFFIXES[kind]}"):
        raise ConfigError(
            f"{what} {name!r} cannot be a file's name: it is longer than file systems take, or "
            f"holds half a character or a zero. Write a shorter name, such as {example!r}."
        )


def embeddings_folder() -> Path:
    """Where `embedding:name` is looked for: the first of ComfyUI's embeddings folders."""
    return Path(folder_paths.get_folder_paths("embeddings")[0])


def unfinished_path(job: str, kind: str) -> Path:
    """Where unfinished work of that name, towards a file of that kind, is kept."""
    root = Path(folder_paths.get_output_directory()) / kind / "unfinished"
    return root / f"{job}.safetensors"


def finished_folder() -> Path:
    """Where finished work is kept for the next run."""
    return Path(folder_paths.get_output_directory()) / "finished_work"


def may_map() -> bool:
    """Whether a file may stay mapped while its tensors are in use: not on Windows, where it could
    not be replaced meanwhile, and not against the user's --disable-mmap."""
    return os.name != "nt" and not getattr(comfy.utils, "DISABLE_MMAP", False)


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
