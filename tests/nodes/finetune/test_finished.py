"""A fine-tune that was done before is found again, and no other."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tverase_core.model.block_mask import BlockMask

pytestmark = pytest.mark.training
SETTINGS: dict[str, Any] = {
    "steps": 1,
    "learning_rate": 1e-3,
    "batch_size": 2,
    "accumulation": 1,
    "seed": 3,
    "flip": True,
    "ema": True,
    "weight_decay": 0.01,
    "gradient_clip": 1.0,
    "rank": 0,
    "finished_work": "reuse",
}
Tune = Callable[..., Any]


@pytest.fixture
def steps_taken(pack: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every prediction of the network."""
    from tverase_pack.nodes.host.model.denoiser import HostDenoiser

    plain, taken = HostDenoiser.predict, list[int]()

    def predict(self: Any, *words: Any) -> Any:
        taken.append(1)
        return plain(self, *words)

    monkeypatch.setattr(HostDenoiser, "predict", predict)
    return taken


@pytest.fixture
def tune(
    pack: Any, comfy_host: Any, make_tiny_model: Any, tmp_path: Path, monkeypatch: Any
) -> Tune:
    """(vector, losses, text) of the node, whose output folder is `tmp_path`."""
    from host_support import host_steps

    monkeypatch.setattr(comfy_host.folder_paths, "get_output_directory", lambda: str(tmp_path))
    model = make_tiny_model()

    def run(**changes: Any) -> Any:
        given = {"model": model, "concept_set": host_steps.pictures(), **SETTINGS, **changes}
        node = pack.NODE_CLASS_MAPPINGS["TVEraseConceptFinetune"]()
        with torch.inference_mode():
            made = node.tune(**{k: v for k, v in given.items() if v is not None})
        return made["result"][2], made["result"][1], made["ui"]["text"][0]

    return run


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "task_vectors" / "finished").glob("*"))


def test_it_is_found_again_to_the_bit(
    tune: Tune, steps_taken: list[int], tmp_path: Path, make_tiny_model: Any
) -> None:
    vector, losses, _ = tune()
    count = len(steps_taken)
    assert count
    again, same_losses, text = tune(model=make_tiny_model())  # as loaded by another process
    assert len(steps_taken) == count
    assert text.startswith("Found again in output/task_vectors/finished")
    assert same_losses == losses
    assert again.provenance == vector.provenance
    assert again.base == vector.base
    assert again.deltas.keys() == vector.deltas.keys()
    assert all(torch.equal(again.deltas[k], vector.deltas[k]) for k in vector.deltas)
    assert len(kept(tmp_path)) == 1
    before = kept(tmp_path)[0].read_bytes()
    tune(finished_work="make anew")
    assert len(steps_taken) == 2 * count
    assert kept(tmp_path)[0].read_bytes() == before
    other = kept(tmp_path)[0].with_name("other.safetensors")
    other.write_bytes(before)
    tune(finished_work="clear")
    assert len(steps_taken) == 3 * count
    assert other not in kept(tmp_path)
    tune(finished_work=None)  # graphs of older versions have no such widget
    assert len(steps_taken) == 4 * count


def test_whatever_it_depends_on_tells_two_apart(
    pack: Any, make_tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.finetune.finetune_settings import finetune_config
    from tverase_pack.nodes.host.training import finished
    from tverase_pack.nodes.host.training.session import checked_config, trained_keys

    from host_support import host_steps

    def place(**changes: Any) -> Any:
        model = changes.pop("model", None) or make_tiny_model()
        pictures = changes.pop("concept_set", None) or host_steps.pictures()
        retained, mask = changes.pop("retained_set", None), changes.pop("block_mask", None)
        config = finetune_config({**SETTINGS, **changes})
        config = checked_config(model, pictures, config, mask, retained, 0)
        trained = trained_keys(model, config)
        return finished.finished_finetune(model, config, pictures, trained, retained, "reuse")._path

    changes: list[dict[str, Any]] = [
        {},
        {"steps": 3},
        {"seed": 4},
        {"learning_rate": 2e-3},
        {"rank": 2},
        {"least_noise": 0.25},
        {"concept_set": host_steps.pictures(seed=6)},
        {"retained_set": host_steps.pictures(seed=7)},
        {"block_mask": BlockMask.cross_attention()},
        {"model": make_tiny_model(seed=1)},
        {"model": make_tiny_model(storage=torch.float32)},
    ]
    places = [place(**change) for change in changes]
    assert len(set(places)) == len(places)
    assert place(gradient_checkpointing="always", checkpoint_every=1) == places[0]
    for owner, name, value in (
        (finished, "REVISION", 99),
        (finished, "host_version", lambda: "9.9"),
        (finished.torch, "__version__", "9.9"),
    ):
        before = getattr(owner, name)
        monkeypatch.setattr(owner, name, value)
        assert place() not in places, name
        monkeypatch.setattr(owner, name, before)
    assert place() == places[0]


def test_what_is_kept_is_bounded_and_can_be_cleared(
    pack: Any, comfy_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.host.training import finished

    from host_support.edit_samples import vector

    monkeypatch.setattr(comfy_host.folder_paths, "get_output_directory", lambda: str(tmp_path))
    works = {name: finished.FinishedWork(name) for name in ("first", "second", "third", "last")}

    def keep(name: str) -> None:
        assert works[name].keep(vector(), [0.5]) == ""

    def names() -> set[str]:
        return {path.stem for path in kept(tmp_path)}

    keep("first")
    (first,) = kept(tmp_path)
    monkeypatch.setattr(finished, "MOST_BYTES", int(2.5 * first.stat().st_size))
    keep("second")
    os.utime(first.with_stem("second"), (1, 1))
    os.utime(first, (2, 2))
    assert works["second"].found() is not None  # used, so it is not the oldest any more
    keep("third")
    assert names() == {"second", "third"}
    monkeypatch.setattr(finished, "MOST_BYTES", 1)
    keep("last")
    assert names() == {"last"}  # the newest stays, however large it is


@pytest.mark.parametrize("harm", ["cut", "other", "no losses"])
def test_a_damaged_one_is_none(
    pack: Any, comfy_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    from tverase_pack.nodes.host.training.finished import FinishedWork

    from host_support.edit_samples import vector

    monkeypatch.setattr(comfy_host.folder_paths, "get_output_directory", lambda: str(tmp_path))
    work = FinishedWork("job")
    assert work.found() is None
    work.keep(vector(), [0.5])
    found = work.found()
    assert found is not None
    assert found.losses == (0.5,)
    assert not found.vector.provenance.extra
    (path,) = kept(tmp_path)
    raw = path.read_bytes()
    harmed = {
        "cut": raw[:-4],
        "other": b"no file of ours",
        "no losses": raw.replace(b"tverase.losses", b"tverase.lossed"),
    }
    path.write_bytes(harmed[harm])
    assert work.found() is None


def test_a_full_disk_loses_no_result(
    tune: Tune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    vector, _, text = tune()
    assert len(vector)
    assert "could not be kept for the next run: while" in text
    assert not kept(tmp_path)
