"""Task-vector files on the real host: ours and the stock LoRA loader agree, and bad files fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from host_support.vector_steps import erase, vector_for
from tverase_core.errors import ConfigError, FormatError, FormatVersionError
from tverase_core.vector.task_vector import TaskVector


def save(pack: Any, vector: TaskVector, prefix: str = "task_vectors/cat", **more: Any) -> str:
    from host_support.host_steps import node

    given = {"filename_prefix": prefix, "dtype": "float32", **more}
    return node(pack, "SaveTaskVector", task_vector=vector, **given)[0]


def load(pack: Any, name: str) -> TaskVector:
    """Validate, then load, as the host does."""
    from host_support.host_steps import node

    loader = pack.NODE_CLASS_MAPPINGS["TVEraseLoadTaskVector"]
    answer = loader.VALIDATE_INPUTS(file=name)
    if answer is not True:
        raise FileNotFoundError(answer)
    return node(pack, "LoadTaskVector", file=name)[0]


def use_output_loras(host: Any) -> Path:
    """output/loras under the test's folder, listed for both kinds as a running server has it."""
    loras = host.base / "output" / "loras"
    loras.mkdir(parents=True, exist_ok=True)
    for kind in ("loras", "task_vectors"):
        folders, extensions = host.folder_paths.folder_names_and_paths[kind]
        if str(loras) not in folders:
            host.folder_paths.folder_names_and_paths[kind] = ([*folders, str(loras)], extensions)
    return Path(loras)


@pytest.mark.parametrize("strength", [0.4, 1.0, 1.75])
def test_the_stock_lora_loader_erases_the_same(
    pack: Any, comfy_host: Any, tiny_model: Any, strength: float
) -> None:
    from host_support import host_steps as steps

    use_output_loras(comfy_host)
    vector = vector_for(tiny_model)
    place = save(pack, vector)
    name = place.removeprefix("loras/")
    stock = comfy_host.nodes.LoraLoaderModelOnly()
    with torch.inference_mode():
        (erased,) = stock.load_lora_model_only(tiny_model, name, -strength)
    got = steps.materialised(erased)
    assert not steps.same(got, steps.weights(tiny_model))
    assert len(erased.patches) == len(vector)
    loaded = load(pack, name)
    assert steps.same(got, steps.materialised(erase(pack, tiny_model, loaded, strength)))
    assert steps.same(got, steps.materialised(erase(pack, tiny_model, vector, strength)))


def test_save_load_save_gives_equal_bytes(
    pack: Any, comfy_host: Any, tiny_model: Any, tmp_path: Path
) -> None:
    from tverase_core.files.task_vector_file import save_task_vector

    use_output_loras(comfy_host)
    place = save(pack, vector_for(tiny_model))
    first = comfy_host.base / "output" / place
    loaded = load(pack, place.removeprefix("loras/"))
    assert loaded.same_deltas(vector_for(tiny_model))
    save_task_vector(tmp_path / first.name, loaded)
    assert (tmp_path / first.name).read_bytes() == first.read_bytes()
    assert not [p for p in first.parent.iterdir() if p.suffix != ".safetensors"]


def test_saving_never_overwrites(pack: Any, comfy_host: Any, tiny_model: Any) -> None:
    use_output_loras(comfy_host)
    vector = vector_for(tiny_model)
    places = [save(pack, vector, "task_vectors/twice") for _ in range(3)]
    assert len(set(places)) == 3
    assert all((comfy_host.base / "output" / place).is_file() for place in places)
    assert all(place.startswith("loras/task_vectors/twice_") for place in places)


def test_a_prefix_that_the_host_cannot_count_overwrites_nothing(pack: Any, comfy_host: Any) -> None:
    """After a slash at the end ComfyUI begins at 1 each time."""
    from tverase_pack.nodes.host.app.paths import new_file

    paths = []
    for _ in range(3):
        paths.append(new_file("task_vectors", "counted/cat/"))
        paths[-1].write_bytes(b"")
    assert len(set(paths)) == 3


@pytest.mark.parametrize("name", ["/elsewhere", "C:\\elsewhere", "../elsewhere", "a/../../b"])
def test_a_list_has_its_folder_inside_the_output_folder(
    pack: Any, comfy_host: Any, name: str
) -> None:
    from tverase_pack.nodes.host.app.paths import list_folder

    with pytest.raises(ConfigError, match="leads outside output/loras"):
        list_folder("task_vectors", name)


def test_half_size_files(pack: Any, comfy_host: Any, tiny_model: Any) -> None:
    use_output_loras(comfy_host)
    vector = vector_for(tiny_model)
    place = save(pack, vector, "task_vectors/half", dtype="bfloat16")
    loaded = load(pack, place.removeprefix("loras/"))
    for key, delta in vector.deltas.items():
        torch.testing.assert_close(loaded.deltas[key], delta, rtol=0.004, atol=0)


@pytest.mark.parametrize("prefix", ["../../escaped", "../escaped", "a/../../../escaped"])
def test_saving_outside_is_refused(
    pack: Any, comfy_host: Any, tiny_model: Any, prefix: str
) -> None:
    use_output_loras(comfy_host)
    with pytest.raises(Exception, match="leads outside output/loras"):
        save(pack, vector_for(tiny_model), prefix)
    assert not list(comfy_host.base.rglob("escaped*"))


@pytest.mark.parametrize(
    "name",
    [
        "../../models/checkpoints/secret.tv.safetensors",
        "../secret.tv.safetensors",
        "task_vectors/../../secret.tv.safetensors",
        "/etc/passwd",
        "..\\secret.tv.safetensors",
        "nothing.tv.safetensors",
        "",
    ],
)
def test_names_that_leave_the_folders_are_refused(
    pack: Any, comfy_host: Any, tiny_model: Any, name: str
) -> None:
    use_output_loras(comfy_host)
    source = comfy_host.base / "output" / save(pack, vector_for(tiny_model), "task_vectors/s")
    for folder in ("models/checkpoints", "output"):
        (comfy_host.base / folder / "secret.tv.safetensors").write_bytes(source.read_bytes())
    with pytest.raises(FileNotFoundError, match=r"No task vector .* Press R"):
        load(pack, name)


def spoiled(host: Any, pack: Any, model: Any, name: str, changes: dict[str, str | None]) -> str:
    """A saved file with other metadata; None drops the entry."""
    loras = use_output_loras(host)
    source = host.base / "output" / save(pack, vector_for(model), f"task_vectors/{name}")
    with safe_open(source, "pt") as opened:
        metadata = {**opened.metadata(), **changes}
    kept = {key: value for key, value in metadata.items() if value is not None}
    save_file(load_file(source), loras / f"{name}.tv.safetensors", kept)
    return f"{name}.tv.safetensors"


def test_files_of_other_kinds_are_refused(pack: Any, comfy_host: Any, tiny_model: Any) -> None:
    loras = use_output_loras(comfy_host)
    save_file({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, loras / "lora.tv.safetensors")
    (loras / "junk.tv.safetensors").write_bytes(b"not a file of any kind")
    (loras / "empty.tv.safetensors").write_bytes(b"")
    for name in ("lora", "junk", "empty"):
        with pytest.raises(FormatError, match=name):
            load(pack, f"{name}.tv.safetensors")
    unsigned = spoiled(comfy_host, pack, tiny_model, "unsigned", {"tverase.direction": None})
    with pytest.raises(FormatError, match="sign of a task vector is never guessed"):
        load(pack, unsigned)


def test_a_newer_format_is_refused(pack: Any, comfy_host: Any, tiny_model: Any) -> None:
    name = spoiled(comfy_host, pack, tiny_model, "newer", {"tverase.format": "2.0"})
    with pytest.raises(FormatVersionError, match=r"newer.*2.*[Uu]pdate"):
        load(pack, name)


def test_the_list_shows_task_vectors_only(pack: Any, comfy_host: Any, tiny_model: Any) -> None:
    loras = use_output_loras(comfy_host)
    save_file({"x": torch.ones(1)}, loras / "plain_lora.safetensors")
    place = save(pack, vector_for(tiny_model), "task_vectors/listed")
    kind, _ = pack.NODE_CLASS_MAPPINGS["TVEraseLoadTaskVector"].INPUT_TYPES()["required"]["file"]
    assert place.removeprefix("loras/") in [str(name).replace("\\", "/") for name in kind]
    assert "plain_lora.safetensors" not in kind


def test_a_changed_file_is_loaded_anew(pack: Any, comfy_host: Any, tiny_model: Any) -> None:
    loras = use_output_loras(comfy_host)
    loader = pack.NODE_CLASS_MAPPINGS["TVEraseLoadTaskVector"]
    name = save(pack, vector_for(tiny_model), "task_vectors/turn").removeprefix("loras/")
    before = loader.IS_CHANGED(file=name)
    assert loader.IS_CHANGED(file=name) == before
    (loras / name).write_bytes((loras / name).read_bytes() + b" ")
    assert loader.IS_CHANGED(file=name) != before


def test_a_file_that_another_node_names_is_checked_when_it_is_there(pack: Any) -> None:
    """The host hands None to the checks before a run, for a value that is not there yet."""
    nodes = pack.NODE_CLASS_MAPPINGS
    for name in ("LoadTaskVector", "LoadInversionSet"):
        loader = nodes[f"TVErase{name}"]
        assert loader.VALIDATE_INPUTS(file=None) is True
        assert loader.IS_CHANGED(file=None) != loader.IS_CHANGED(file=None)
    files = nodes["TVEraseExtractFromFiles"]
    assert files.VALIDATE_INPUTS(base_file=None, tuned_file=None) is True
    unknown = files.IS_CHANGED(base_file=None, tuned_file=None)
    assert unknown != unknown
    for given in ({"base_file": "no"}, {"tuned_file": "no"}):
        both = {"base_file": None, "tuned_file": None, **given}
        assert files.VALIDATE_INPUTS(**both) is not True
