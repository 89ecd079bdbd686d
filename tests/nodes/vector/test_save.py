"""Erased models through the stock savers and back, and the vector nodes' smaller forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from host_support.places import DATA
from tverase_core.model.block_mask import BlockMask
from tverase_core.vector.task_vector import TaskVector

Make = Callable[..., Any]


def vector_for(model: Any, seed: int = 7) -> TaskVector:
    from tverase_pack.nodes.host.model.weights import fingerprint, model_shapes

    source = torch.Generator().manual_seed(seed)
    deltas = {
        key: 0.02 * torch.randn(tuple(shape), generator=source)
        for key, shape in model_shapes(model).items()
    }
    return TaskVector(deltas, fingerprint(model))


def erased(pack: Any, model: Any) -> Any:
    from host_support.host_steps import node

    given = {"task_vector": vector_for(model), "strength": 0.8, "other_weights": "refuse"}
    return node(pack, "ApplyNegatedTV", model=model, **given)[0]


def newest(folder: Path, pattern: str) -> Path:
    return max(folder.rglob(pattern), key=lambda path: path.stat().st_mtime_ns)


def test_a_saved_erased_checkpoint_opens_without_us(
    pack: Any, comfy_host: Any, tiny_checkpoint: Path
) -> None:
    """Stock loader, erase, stock saver, stock loader: the erased weights, bit for bit."""
    import comfy.sd
    from comfy_extras.nodes_model_merging import CheckpointSave

    from host_support import host_steps as steps

    with torch.inference_mode():
        loaded = comfy.sd.load_checkpoint_guess_config(str(tiny_checkpoint))
        model, clip, vae = loaded[:3]
        made = erased(pack, model)
        saver = CheckpointSave()
        saver.save(made, clip, vae, "erased/tiny")
        file = newest(Path(comfy_host.folder_paths.get_output_directory()), "tiny_*.safetensors")
        again = comfy.sd.load_checkpoint_guess_config(str(file))
    wanted = steps.materialised(made)
    assert steps.same(steps.weights(again[0]), wanted)
    assert not steps.same(wanted, steps.weights(model))


def test_a_saved_erased_diffusion_model_opens_without_us(
    pack: Any, comfy_host: Any, tiny_checkpoint: Path
) -> None:
    import comfy.sd
    from comfy_extras.nodes_model_merging import ModelSave

    from host_support import host_steps as steps

    with torch.inference_mode():
        model = comfy.sd.load_checkpoint_guess_config(str(tiny_checkpoint))[0]
        made = erased(pack, model)
        ModelSave().save(made, "erased/unet")
        file = newest(Path(comfy_host.folder_paths.get_output_directory()), "unet_*.safetensors")
        again = comfy.sd.load_diffusion_model(str(file))
    wanted = steps.materialised(made)
    assert {k: v.float() for k, v in steps.weights(again).items()}.keys() == wanted.keys()
    for key, weight in steps.weights(again).items():
        assert torch.equal(weight.float(), wanted[key].float()), key


def test_export_under_diffusers_names(pack: Any, comfy_host: Any, make_tiny_model: Make) -> None:
    """Every weight, under the names of the host's own table, edit included."""
    import comfy.utils
    from safetensors.torch import load_file

    from host_support import host_steps as steps

    model = make_tiny_model(storage=torch.float16)
    made = erased(pack, model)
    place = steps.node(pack, "ExportUNet", model=made, filename_prefix="erased/export")[0]
    saved = load_file(Path(comfy_host.folder_paths.get_output_directory()) / place)
    wanted = steps.materialised(made)
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    assert len(saved) == len(wanted)
    assert "down_blocks.0.resnets.0.conv1.weight" in saved
    for name, tensor in saved.items():
        assert torch.equal(tensor, wanted["diffusion_model." + names[name]]), name


def test_save_task_vector_smaller(
    pack: Any, comfy_host: Any, make_tiny_model: Make, tmp_path: Path
) -> None:
    from host_support import host_steps as steps
    from tverase_core.files.task_vector_file import load_task_vector

    vector = vector_for(make_tiny_model())
    given = {"task_vector": vector, "filename_prefix": "task_vectors/small"}
    output = Path(comfy_host.folder_paths.get_output_directory())
    whole = output / steps.node(pack, "SaveTaskVector", dtype="bfloat16", **given)[0]
    small = output / steps.node(pack, "SaveTaskVector", dtype="bfloat16", max_error=0.7, **given)[0]
    assert small.stat().st_size < 0.8 * whole.stat().st_size
    read = load_task_vector(small)
    assert 0.3 < (read - vector).norm() / vector.norm() < 0.71


def test_vector_nodes(pack: Any, make_tiny_model: Make) -> None:
    from host_support import host_steps as steps

    model = make_tiny_model()
    one, two = vector_for(model), vector_for(model, 8)
    picture, report = steps.node(pack, "CompareTaskVectors", first=one, second=two, third=one * 2.0)
    assert picture.shape[0] == 1
    assert len(report.splitlines()) == 3
    numbers = {"first_factor": 1.0, "second_factor": 1.0, "orthogonalise": False}
    mask = BlockMask.only(blocks=("M00",))
    both, _ = steps.node(
        pack, "CombineTaskVectors", first=one, second=two, second_mask=mask, **numbers
    )
    for key, delta in both.deltas.items():
        part = two.deltas[key] if ".middle_block." in key else 0.0
        assert torch.equal(delta, one.deltas[key] + part)


@pytest.mark.injections
def test_export_refuses_an_edit_that_is_not_in_the_weights(
    pack: Any, comfy_host: Any, make_tiny_model: Make
) -> None:
    from host_support.host_steps import node
    from tverase_core.errors import BaseMismatchError

    model = make_tiny_model()
    given = {"task_vector": vector_for(model), "strength": 0.8, "other_weights": "refuse"}
    exact = node(pack, "ApplyNegatedTV", model=model, **given, precision="runtime_exact")[0]
    lora_on_top = erased(pack, exact)
    for made in (exact, lora_on_top):
        with pytest.raises(BaseMismatchError, match="set precision to patch"):
            node(pack, "ExportUNet", model=made, filename_prefix="erased/exact")
    assert not list(Path(comfy_host.folder_paths.get_output_directory()).rglob("exact_*"))


@pytest.mark.parametrize("name", ["flux_dev", "sd35_medium"])
def test_export_knows_unets_only(pack: Any, name: str) -> None:
    import gzip
    import json

    from tverase_pack.nodes.host.model.export import names_to_export

    from tverase_core.errors import BaseMismatchError

    data = DATA / "model_keys.json.gz"
    keys = json.loads(gzip.decompress(data.read_bytes()))
    with pytest.raises(BaseMismatchError, match="Save Model"):
        names_to_export(keys[name])
