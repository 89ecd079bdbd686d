"""Diverse Inversion and Auto-Strength find again what they found before, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from tverase_core.errors import TveraseError
from tverase_core.inversion.inversion_set import InversionSet, encoder_digest
from tverase_core.model.block_mask import BlockMask
from tverase_core.strength.choice import NoFeasibleStrengthError

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("known_world")]
NODES = ("DiverseInversion", "AutoStrength")
SMALL = {
    "DiverseInversion": {"count": 2, "steps": 2, "batch": 1, "checks": 2, "restarts": 1},
    "AutoStrength": {
        **{"retained": "a dog | dog", "target": 0.5, "max_strength": 2.0, "step": 0.5},
        **{"pictures_per_trigger": 4, "pictures_per_retained": 2},
    },
}
Run = Callable[..., Any]


class Asked(Exception):
    """Carries the file that a node looked for."""


@pytest.fixture
def run(pack: Any, folder: Path, make_tiny_model: Any) -> Run:
    """A node's `result` and `ui`, in a world made anew for each run."""
    from host_support import attack_steps, host_steps, tiny_host

    def made(name: str, **changes: Any) -> Any:
        model = changes.pop("model", None) or make_tiny_model(storage=torch.float32)
        clip = changes.pop("clip", None) or tiny_host.build_clip()
        given = {"vae": attack_steps.FlatVAE(), "judge": attack_steps.MeanJudge()}
        if name == "AutoStrength":
            given["task_vector"] = attack_steps.bright_vector(model)
            given["inversion_set"] = triggers(model, clip)
        else:
            given["concept_set"] = host_steps.pictures(3)
        cls = pack.NODE_CLASS_MAPPINGS[f"TVErase{name}"]
        drawing = {**attack_steps.DRAWING, "width": 32, "height": 32, "sampling_steps": 1}
        given |= {**drawing, **SMALL[name], "finished_work": "reuse", **changes}
        with torch.inference_mode():
            node = getattr(cls(), cls.FUNCTION)
            return node(model=model, clip=clip, **attack_steps.defaults(cls, **given))

    return made


def triggers(model: Any, clip: Any) -> InversionSet:
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    ones = torch.ones(4)
    return InversionSet(
        vectors={"l": 0.2 * torch.randn(4, 1, 32, generator=torch.Generator().manual_seed(1))},
        losses=ones,
        seeds=torch.arange(4),
        valid=ones.bool(),
        concept="cat",
        template="a {}",
        text_encoder=encoder_digest(HostTextEncoder(model, clip)),
        hit_rates=ones,
    )


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, InversionSet):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("name", NODES)
def test_everything_comes_back_equal(
    run: Run, calls: list[int], folder: Path, name: str, comfy_host: Any
) -> None:
    first = run(name)
    count = len(calls)
    assert count
    again = run(name)
    assert len(calls) == count
    assert all(same(*pair) for pair in zip(first["result"], again["result"], strict=True))
    text = again["ui"].pop("text")[0]
    assert text.startswith(first["ui"].pop("text")[0])
    assert "Found again in output/finished_work" in text
    temp = Path(comfy_host.folder_paths.get_temp_directory())
    shown = [
        [(temp / image["filename"]).read_bytes() for image in made["ui"].pop("images")]
        for made in (first, again)
    ]
    assert shown[0]
    assert shown[0] == shown[1]
    assert first["ui"] == again["ui"]
    (kept,) = folder.iterdir()
    run(name, finished_work="make anew")
    assert len(calls) == 2 * count
    kept.write_bytes(kept.read_bytes()[:-1])
    assert "cannot be read, so it was done anew" in run(name)["ui"]["text"][0]
    assert len(calls) == 3 * count
    run(name, finished_work="clear")
    assert len(calls) == 4 * count
    run(name, finished_work="")  # as graphs of older versions, which have no such widget
    assert len(calls) == 5 * count
    assert len(list(folder.iterdir())) == 1


def test_an_infeasible_search_is_not_made_twice(run: Run, calls: list[int]) -> None:
    limits = {"max_strength": 0.25, "step": 0.125}
    with pytest.raises(NoFeasibleStrengthError) as caught:
        run("AutoStrength", **limits)
    count = len(calls)
    strength, text = run("AutoStrength", **limits, when_infeasible="nearest")["result"]
    assert strength == caught.value.tradeoffs[0].strength
    assert text in str(caught.value)
    assert len(calls) == count


@pytest.mark.parametrize("name", NODES)
def test_whatever_it_depends_on_tells_two_apart(
    run: Run, pack: Any, monkeypatch: pytest.MonkeyPatch, make_tiny_model: Any, name: str
) -> None:
    from tverase_pack.nodes.host.training.finished import FinishedWork

    from host_support import attack_steps, host_steps, tiny_host

    def found(self: Any) -> None:
        raise Asked(self._path)

    monkeypatch.setattr(FinishedWork, "found", found)

    def place(**changes: Any) -> str:
        with pytest.raises(Asked) as asked:
            run(name, **{k: v() if callable(v) else v for k, v in changes.items()})
        return str(asked.value)

    def erased() -> Any:
        model = make_tiny_model(storage=torch.float32)
        given = {"strength": 0.5, "precision": "patch", "other_weights": "refuse"}
        vector = attack_steps.bright_vector(model)
        return host_steps.node(pack, "ApplyNegatedTV", model=model, task_vector=vector, **given)[0]

    def skipping() -> Any:
        clip = tiny_host.build_clip()
        clip.clip_layer(-2)
        return clip

    def with_lora() -> Any:
        clip = tiny_host.build_clip()
        key = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
        shape = clip.cond_stage_model.state_dict()[key].shape
        assert clip.add_patches({key: ("diff", (torch.ones(shape),))}, 1.0)
        return clip

    def other_vae() -> Any:
        vae = attack_steps.FlatVAE()
        vae.middle = 0.4
        return vae

    changes: list[dict[str, Any]] = [
        {},
        {"model": erased},
        {"clip": skipping},
        {"clip": with_lora},
        {"vae": other_vae},
        {"judge": attack_steps.BlindJudge},
        {"prompt": "a photo of a cat"},
        {"seed": 1},
        {"cfg": 2.0},
        {"width": 64},
        {"sampler_name": "dpmpp_2m"},
        {"pictures_at_once": 4},
    ]
    if name == "DiverseInversion":
        changes += [
            {"model": lambda: make_tiny_model(seed=1, storage=torch.float32)},
            {"concept_set": lambda: host_steps.pictures(3, seed=6)},
            *({"steps": 3}, {"checks": 3}, {"restarts": 0}, {"template": "the {}"}),
        ]
    else:
        model = make_tiny_model(storage=torch.float32)
        changes += [
            {"task_vector": lambda: attack_steps.bright_vector(model, 0.4)},
            {"inversion_set": lambda: triggers(model, tiny_host.build_clip()).subset([0, 1, 2])},
            {"attack": lambda: triggers(model, tiny_host.build_clip())},
            {"block_mask": lambda: BlockMask(blocks={"FINAL": 0.5})},
            {"retained": "a dog | dog\na tree | dog"},
            *({"target": 0.6}, {"budget": 0.5}, {"step": 0.25}, {"tuning_share": 0.75}),
            *({"verify": False}, {"pictures_per_trigger": 5}, {"pictures_per_retained": 3}),
        ]
    places = [place(**change) for change in changes]
    assert "None" not in places
    assert len(set(places)) == len(places)
    assert place(model=lambda: make_tiny_model(storage=torch.float32)) == places[0]
    if name == "AutoStrength":
        assert place(when_infeasible="nearest") == places[0]


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("what", ["judge", "vae"])
def test_what_is_another_packs_is_not_kept(run: Run, folder: Path, name: str, what: str) -> None:
    from host_support import attack_steps

    world = {"judge": attack_steps.MeanJudge(), "vae": attack_steps.FlatVAE()}
    stranger = type("Stranger", (type(world[what]),), {"__module__": "another_pack"})()
    text = run(name, **{what: stranger})["ui"]["text"][0]
    assert text.endswith(
        "Not kept for the next run: whether Stranger is the same then cannot be told."
    )
    assert not folder.exists()


def test_a_choice_of_other_fields_is_refused(tmp_path: Path) -> None:
    from tverase_core.storage.reproducible import write_safetensors
    from tverase_core.strength.choice_file import FIELDS, KIND, load_choice

    path = tmp_path / "choice.safetensors"
    for text in (b"{}", b"[]", b"not JSON", b'{"strength": "1"}', b"\xff"):
        held = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        write_safetensors(path, {FIELDS: held}, {"tverase.kind": KIND})
        with pytest.raises(TveraseError, match="no whole choice"):
            load_choice(path)
