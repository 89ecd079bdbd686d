"""Extract from Files on the real host: equal to extraction from loaded models."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from tverase_core.errors import FormatError


@pytest.fixture
def models(comfy_host: Any) -> Path:
    return Path(comfy_host.folder_paths.get_folder_paths("checkpoints")[0])


def under_diffusers_names(held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """By the host's own table."""
    from comfy.utils import unet_to_diffusers

    from host_support.tiny_host import UNET

    table = {f"diffusion_model.{place}": name for name, place in unet_to_diffusers(UNET).items()}
    return {table[key]: weight for key, weight in held.items()}


@pytest.mark.parametrize("form", ["checkpoint", "diffusers"])
def test_files_give_what_loaded_models_give(
    pack: Any, models: Path, make_tiny_model: Callable[..., Any], form: str
) -> None:
    from host_support import host_steps as steps

    base, tuned = make_tiny_model(seed=1), make_tiny_model(seed=2)
    save_file({f"model.{k}": w for k, w in steps.weights(base).items()}, models / "b.safetensors")
    held = steps.weights(tuned)
    named = (
        under_diffusers_names(held)
        if form == "diffusers"
        else {f"model.{k}": held[k] for k in held}
    )
    save_file(named, models / "t.safetensors")
    made, place, report = steps.node(
        pack,
        "ExtractFromFiles",
        base_file="checkpoints/b.safetensors",
        tuned_file="checkpoints/t.safetensors",
        concept="",
        filename_prefix=f"from_files/{form}",
        dtype="float32",
    )
    native = steps.node(pack, "ExtractTaskVector", base=base, tuned=tuned, concept="t")[0]
    assert made.same_deltas(native)
    assert made.base.compare(native.base) == "same"
    assert made.provenance.concepts == native.provenance.concepts == ("t",)
    assert place.startswith(f"loras/from_files/{form}_")
    assert ("diffusers UNet" if form == "diffusers" else "under checkpoint names") in report
    erased = [
        steps.node(
            pack,
            "ApplyNegatedTV",
            model=base,
            task_vector=vector,
            strength=1.0,
            other_weights="refuse",
        )[0]
        for vector in (made, native)
    ]
    assert steps.same(*map(steps.materialised, erased))


def test_files_are_listed_found_and_watched(pack: Any, comfy_host: Any, models: Path) -> None:
    cls = pack.NODE_CLASS_MAPPINGS["TVEraseExtractFromFiles"]
    path = models / "listed.safetensors"
    save_file({"model.diffusion_model.x.weight": torch.ones(1)}, path)
    comfy_host.folder_paths.filename_list_cache.pop("checkpoints", None)
    choice = "checkpoints/listed.safetensors"
    assert choice in cls.INPUT_TYPES()["required"]["base_file"][0]
    assert cls.VALIDATE_INPUTS(base_file=choice, tuned_file=choice) is True
    before = cls.IS_CHANGED(choice, choice)
    save_file({"model.diffusion_model.x.weight": torch.ones(2)}, path)
    assert cls.IS_CHANGED(choice, choice) != before
    for strange in ("checkpoints/none.safetensors", "loras/x.safetensors", "checkpoints/", ""):
        assert "No model file" in cls.VALIDATE_INPUTS(base_file=choice, tuned_file=strange)


def test_cancel_and_pickles_leave_no_file(
    pack: Any, comfy_host: Any, models: Path, make_tiny_model: Callable[..., Any]
) -> None:
    import comfy.model_management as management

    from host_support import host_steps as steps

    held = steps.weights(make_tiny_model(seed=1))
    save_file({f"model.{k}": w for k, w in held.items()}, models / "c.safetensors")
    save_file({f"model.{k}": w + 1 for k, w in held.items()}, models / "d.safetensors")
    (models / "e.ckpt").write_bytes(b"PK\x03\x04")
    output = Path(comfy_host.folder_paths.get_output_directory())

    def run(tuned: str) -> None:
        steps.node(
            pack,
            "ExtractFromFiles",
            base_file="checkpoints/c.safetensors",
            tuned_file=f"checkpoints/{tuned}",
            concept="x",
            filename_prefix="cancelled/x",
            dtype="bfloat16",
        )

    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        run("d.safetensors")
    with pytest.raises(FormatError, match=r"e\.ckpt: is a pickle"):
        run("e.ckpt")
    assert not [path for path in output.glob("loras/cancelled/*") if path.is_file()]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux what is mapped")
def test_the_vector_stays_in_its_file(
    pack: Any, comfy_host: Any, models: Path, make_tiny_model: Callable[..., Any]
) -> None:
    """The node promises to load no model; a vector is as large as one, so it stays on disk too."""
    from host_support import host_steps as steps

    for name, seed in (("m", 1), ("n", 2)):
        held = steps.weights(make_tiny_model(seed=seed))
        save_file({f"model.{k}": w for k, w in held.items()}, models / f"{name}.safetensors")
    made, place, _ = steps.node(
        pack,
        "ExtractFromFiles",
        base_file="checkpoints/m.safetensors",
        tuned_file="checkpoints/n.safetensors",
        concept="",
        filename_prefix="from_files/mapped",
        dtype="float32",
    )
    assert made.deltas
    assert place.rpartition("/")[2] in Path("/proc/self/maps").read_text("utf-8")


def test_a_name_that_is_no_text_names_the_concept_as_far_as_it_is(
    pack: Any, models: Path, make_tiny_model: Callable[..., Any]
) -> None:
    """Its byte reaches Python as half a character, which no header can hold."""
    from host_support import host_steps as steps

    strange = os.fsdecode(b"caf\xe9")
    try:
        for name, seed in (("plain", 1), (strange, 2)):
            held = steps.weights(make_tiny_model(seed=seed))
            with open(models / f"{name}.safetensors", "wb") as file:
                file.write(save({f"model.{k}": w for k, w in held.items()}))
    except OSError:
        pytest.skip("this file system has no such names")
    made = steps.node(
        pack,
        "ExtractFromFiles",
        base_file="checkpoints/plain.safetensors",
        tuned_file=f"checkpoints/{strange}.safetensors",
        concept="",
        filename_prefix="from_files/strange",
        dtype="float32",
    )[0]
    (models / f"{strange}.safetensors").unlink()
    assert made.provenance.concepts == ("caf?",)
    assert made.provenance.title == "caf? task vector"
