"""Which files a checkpoint is made of: one file, a diffusers folder, or the shards of an index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..errors import FormatError, listed
from ..storage.header import HEADER_CAP_BYTES
from ..storage.new_file import is_plain_name

INDEX_SUFFIX = ".safetensors.index.json"
_PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_PICKLE_STARTS = (b"PK\x03\x04", *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)))
_SUBFOLDERS = ("unet", "transformer")


def files_of(path: Path) -> tuple[list[Path], Mapping[str, str] | None]:
    """The files of a model, and the index's file by tensor name, if it has an index."""
    if path.is_dir():
        return _folder_files(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder. Check the path.")
    if path.name.endswith(".json"):
        return _shards(path)
    with path.open("rb") as file:
        head = file.read(9)
    pickled = path.suffix.lower() in _PICKLES or head.startswith(_PICKLE_STARTS)
    if pickled and not _begins_as_safetensors(head):
        raise FormatError(
            f"{path.name}: is a pickle, which can run a stranger's code when it is opened. "
            "Convert it first: in ComfyUI connect Load Checkpoint to Save Checkpoint, which "
            "writes safetensors; in diffusers use save_pretrained."
        )
    return [path], None


def _begins_as_safetensors(head: bytes) -> bool:
    """Eight bytes of header length, then the header's first character.

    The low bytes of a length may be those that a pickle begins with. No pickle and no zip file has
    zeros in bytes 4 to 7, as every length that is allowed has, and a brace after them.
    """
    return int.from_bytes(head[:8], "little") <= HEADER_CAP_BYTES and head[8:9] == b"{"


def _folder_files(folder: Path) -> tuple[list[Path], Mapping[str, str] | None]:
    places = [folder, *(folder / sub for sub in _SUBFOLDERS if (folder / sub).is_dir())]
    for place in places:
        indices = sorted(p for p in place.iterdir() if p.name.endswith(".json") and _is_index(p))
        single = sorted(place.glob("diffusion_pytorch_model*.safetensors"))
        whole = [path for path in single if "-of-" not in path.name]
        if len(indices) + len(whole) > 1:
            found = listed([p.name for p in (*indices, *whole)])
            raise FormatError(
                f"{folder.name}: holds more than one model ({found}). Give one of these files."
            )
        if indices:
            return _shards(indices[0])
        if whole:
            return whole, None
        if any(place.glob("diffusion_pytorch_model*.bin")):
            raise FormatError(
                f"{folder.name}: its weights are pickled (.bin). Convert them in diffusers: "
                "save_pretrained(folder, safe_serialization=True)."
            )
    raise FormatError(
        f"{folder.name}: is no diffusers model: expected diffusion_pytorch_model.safetensors or "
        "its index, here or in a folder 'unet'."
    )


def _is_index(path: Path) -> bool:
    return ".safetensors.index" in path.name  # "....safetensors.index.fp16.json" too


def _shards(index: Path) -> tuple[list[Path], Mapping[str, str]]:
    try:
        table = json.loads(index.read_text("utf-8"))["weight_map"]
        where = {str(name): str(file) for name, file in table.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"{index.name}: is no index of safetensors shards ({error!r})") from error
    files = sorted(set(where.values()))
    foreign = [f for f in files if not f.endswith(".safetensors") or not is_plain_name(f)]
    if foreign or not files:
        raise FormatError(
            f"{index.name}: expected names of safetensors files beside it, got "
            f"{listed(foreign) or 'none'}"
        )
    gone = [file for file in files if not (index.parent / file).is_file()]
    if gone:
        raise FormatError(f"{index.name}: these shards are missing: {listed(gone)}. Fetch them.")
    return [index.parent / file for file in files], where
