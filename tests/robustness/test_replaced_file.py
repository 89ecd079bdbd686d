"""A file that is replaced while a graph holds what was loaded from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch


def test_what_was_loaded_stays_what_it_was(
    pack: Any, comfy_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors are mapped: a new file of that name must not show through in the old one, and the
    next prompt must load the new one."""
    from host_support.edit_samples import vector
    from tverase_core.files.task_vector_file import save_task_vector

    paths = comfy_host.folder_paths
    folders = {**paths.folder_names_and_paths, "task_vectors": ([str(tmp_path)], {".safetensors"})}
    monkeypatch.setattr(paths, "folder_names_and_paths", folders)
    monkeypatch.setattr(paths, "filename_list_cache", {})
    name, first = "cat.tv.safetensors", vector()
    second = replace(first, deltas={key: 2 * delta for key, delta in first.deltas.items()})
    node = pack.NODE_CLASS_MAPPINGS["TVEraseLoadTaskVector"]
    save_task_vector(tmp_path / name, first)
    loaded, mark = node().load(file=name)[0], node.IS_CHANGED(name)
    save_task_vector(tmp_path / name, second)
    assert node.IS_CHANGED(name) != mark
    again = node().load(file=name)[0]
    for key, delta in first.deltas.items():
        assert torch.equal(loaded.deltas[key], delta)
        assert torch.equal(again.deltas[key], 2 * delta)
