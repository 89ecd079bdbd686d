"""A fine-tune that was done before is found again, and no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tverase_core.model.block_mask import BlockMask

pytestmark = pytest.mark.training
Tune = Callable[..., Any]


@pytest.fixture
def tune(pack: Any, folder: Path, make_tiny_model: Any) -> Tune:
    """(vector, losses, text) of the node."""
    from host_support import host_steps

    model = make_tiny_model()

    def run(**changes: Any) -> Any:
        given = {"model": model, "concept_set": host_steps.pictures(), **host_steps.TUNING}
        given |= {"steps": 1, "finished_work": "reuse", **changes}
        node = pack.NODE_CLASS_MAPPINGS["TVEraseConceptFinetune"]()
        with torch.inference_mode():
            made = node.tune(**{k: v for k, v in given.items() if v is not None})
        return made["result"][2], made["result"][1], made["ui"]["text"][0]

    return run


def test_it_is_found_again_to_the_bit(
    tune: Tune, calls: list[int], folder: Path, make_tiny_model: Any
) -> None:
    vector, losses, _ = tune()
    count = len(calls)
    assert count
    again, same_losses, text = tune(model=make_tiny_model())  # as loaded by another process
    assert len(calls) == count
    assert text.startswith("Found again in output/finished_work")
    assert same_losses == losses
    assert again.provenance == vector.provenance
    assert again.base == vector.base
    assert again.deltas.keys() == vector.deltas.keys()
    assert all(torch.equal(again.deltas[k], vector.deltas[k]) for k in vector.deltas)
    (kept,) = folder.iterdir()
    before = kept.read_bytes()
    tune(finished_work="make anew")
    assert len(calls) == 2 * count
    assert kept.read_bytes() == before
    other = kept.with_name("other.safetensors")
    other.write_bytes(before)
    tune(finished_work="clear")
    assert len(calls) == 3 * count
    assert not other.exists()
    tune(finished_work=None)  # graphs of older versions have no such widget
    assert len(calls) == 4 * count


def test_whatever_it_depends_on_tells_two_apart(
    pack: Any, folder: Path, make_tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.finetune.finetune_settings import finetune_config
    from tverase_pack.nodes.finetune.node import FORM, PURPOSE
    from tverase_pack.nodes.host.training import finished
    from tverase_pack.nodes.host.training.session import checked_config, tuning_job

    from host_support import host_steps

    def place(**changes: Any) -> Any:
        model = changes.pop("model", None) or make_tiny_model()
        pictures = changes.pop("concept_set", None) or host_steps.pictures()
        retained, mask = changes.pop("retained_set", None), changes.pop("block_mask", None)
        config = finetune_config({**host_steps.TUNING, **changes})
        config = checked_config(model, pictures, config, mask, retained, 0)
        job = tuning_job(model, pictures, config, retained)
        return finished.finished_work(FORM, "reuse", model, PURPOSE, lambda: [job])._path

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


def test_another_noise_schedule_is_another_work(
    tune: Tune, calls: list[int], make_tiny_model: Any
) -> None:
    """ModelSampling nodes change no weight."""
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    tune()
    count = len(calls)
    (model,) = ModelSamplingDiscrete().patch(make_tiny_model(), "v_prediction", False)
    _, _, text = tune(model=model)
    assert len(calls) == 2 * count
    assert "Found again" not in text
