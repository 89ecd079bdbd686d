"""Nothing that is written says whose machine it was made on."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from tverase_core.errors import TveraseError

SECRET = "secret-folder-of-a-person"


@pytest.mark.training
def test_files_hold_no_private_words(
    pack: Any, comfy_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of file that nodes write: vectors, inversion sets, embeddings, exported models,
    unfinished and finished work, pictures, a list's status and table."""
    from tverase_pack.nodes.concept_list.status import ConceptFiles, Status
    from tverase_pack.nodes.concept_list.summary import save_combined, save_table
    from tverase_pack.nodes.host.model.weights import layout_of

    from bench.fault_parts.world import World
    from host_support.host_steps import TUNING
    from tverase_core.concept_set import concept_set
    from tverase_core.files.task_vector_file import save_task_vector

    root, paths = tmp_path / SECRET, comfy_host.folder_paths
    root.mkdir()
    monkeypatch.setenv("TVERASE_TEST_WORD", "word-of-the-environment")
    monkeypatch.setattr(paths, "get_output_directory", lambda: str(root))
    monkeypatch.setattr(paths, "get_temp_directory", lambda: str(root / "temp"))
    folders = {**paths.folder_names_and_paths, "embeddings": ([str(root / "embeddings")], set())}
    monkeypatch.setattr(paths, "folder_names_and_paths", folders)
    (root / "embeddings").mkdir()
    (root / "temp").mkdir()
    world = World(pack, root)  # saves a vector
    tuning = {"model": world.model, "concept_set": world.pictures, **TUNING}
    world.node("ConceptFinetune", **tuning, finished_work="reuse")
    stopped = {"checkpoint_every": 1, **tuning, "steps": 3}
    broken = concept_set("cat", world.pictures.latents, world.pictures.contexts)
    calls = []

    def stop(*_: Any, **__: Any) -> None:
        calls.append(1)
        if len(calls) > 3:  # after the first step was kept
            raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr("tverase_pack.nodes.host.app.progress.NodeProgress.__call__", stop)
        with pytest.raises(ZeroDivisionError):
            world.node("ConceptFinetune", **{**stopped, "concept_set": broken})
    world.node("SaveTaskVector", **world.saving("small"), max_error=0.1)
    world.node("SaveInversionSet", inversion_set=world.triggers, filename_prefix="cat")
    world.node("ExportEmbeddings", inversion_set=world.triggers, name="cat")
    world.node("ExportUNet", model=world.model, filename_prefix="unet")
    files = ConceptFiles(root, "cat")
    files.write(Status("cat", failed=str(TveraseError("It did not work."))))
    for stem in ("cat", "dog"):
        save_task_vector(root / f"{stem}.tv.safetensors", world.vector)
    vectors = [root / "cat.tv.safetensors", root / "dog.tv.safetensors"]
    save_combined(root, vectors, [1.0, 0.5], "float32")
    save_table(root, vectors, [1.0, 0.5], layout_of(world.model))
    written = [path for path in root.rglob("*") if path.is_file()]
    kinds = {path.parent.relative_to(root).as_posix() for path in written}
    assert {"loras", "finished_work", "task_vectors/unfinished", "inversion_sets"} <= kinds
    assert {"embeddings", ".", "temp"} <= kinds
    words = {SECRET, "word-of-the-environment", str(Path.home()), socket.gethostname()}
    words |= {str(Path(torch.__file__).parent), os.getcwd(), getpass.getuser()}
    long = [word.encode() for word in words if len(word) > 5]  # a short one may be there by chance
    assert not [(p.name, w) for p in written for w in long if w in p.read_bytes()]
