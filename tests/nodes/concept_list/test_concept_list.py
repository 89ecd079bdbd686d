"""erase_list.py: a list of concepts in one run, several runs, several processes."""

from __future__ import annotations

import importlib
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import erase_list as script
from host_support.places import ROOT
from tverase_core.errors import ConfigError, InversionError
from tverase_core.files.task_vector_file import load_task_vector, read_provenance
from tverase_core.model.fingerprint import BaseFingerprint
from tverase_core.vector.provenance import Provenance
from tverase_core.vector.task_vector import TaskVector

NAMES = itertools.count()
KEY = "diffusion_model.out.2.bias"
START = """
checkpoint: tiny.safetensors
output: {output}
pictures: {{count: 2, width: 64, height: 64, steps: 2, cfg: 1, batch_size: 2}}
finetune: {{steps: 2, learning_rate: 1e-3, batch_size: 2, accumulation: 1}}
concepts:
"""
CAT = "  - {name: cat, prompts: [a cat], strength: 1.5, retained: [a dog | dog]}\n"
GOGH = '  - {name: Van Gogh, images: "demo: cats", strength: 2}\n'


class Work:
    """Stands in for the stages: a vector of the concept's number, and what was asked for."""

    fault: BaseException | None = None

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, base: Any, settings: Any, judge: str, say: Any) -> Work:
        made = Work()
        made.asked, made.fault = self.asked, self.fault
        made.base, made.concept = base, settings.concept  # type: ignore[attr-defined]
        return made

    def vector(self) -> TaskVector:
        name = self.concept.name  # type: ignore[attr-defined]
        self.asked.append(f"vector of {name}")
        if self.fault and name == "Van Gogh":
            raise self.fault
        keys, content = self.base.identity.split(":")  # type: ignore[attr-defined]
        delta = torch.arange(4) + float(len(name))
        who = BaseFingerprint("sd-unet-32-32", keys, content, "float16")
        return TaskVector({KEY: delta}, who, Provenance(concepts=(name,)))

    def strength(self, vector: TaskVector) -> tuple[float, str]:
        name = self.concept.name  # type: ignore[attr-defined]
        self.asked.append(f"strength of {name}")
        return self.concept.strength or 0.25, ""  # type: ignore[attr-defined]


class Part:
    """Process `index` of `count`, without the others."""

    def __init__(self, index: int, count: int):
        self.index, self.count = index, count

    def share(self, items: Sequence[Any]) -> list[Any]:
        return list(items)[self.index :: self.count]

    def wait(self) -> None:
        pass


@pytest.fixture
def listing(pack: Any, comfy_host: Any, tiny_checkpoint: Path, tmp_path: Path) -> Any:
    """`.write(text)` a list, `.run(stages, processes)` it; `.folder` holds what it made."""

    class Listing:
        run_module = importlib.import_module("tverase_pack.nodes.concept_list.run")
        output = f"list{next(NAMES)}"
        folder = Path(comfy_host.folder_paths.get_output_directory()) / "loras" / output
        path = tmp_path / "concepts.yaml"

        def write(self, concepts: str, start: str = START) -> None:
            self.path.write_text(start.format(output=self.output) + concepts, "utf-8")

        def run(self, stages: Any = None, processes: Any = None) -> int:
            given = {} if stages is None else {"stages": stages}
            return int(self.run_module.erase_list(self.path, processes or Part(0, 1), **given))

        def status(self, stem: str) -> dict[str, Any]:
            return dict(json.loads((self.folder / f"{stem}.json").read_text("utf-8")))

    return Listing()


@pytest.mark.training
def test_real_nodes_make_every_file_and_a_second_run_makes_none(listing: Any) -> None:
    listing.write(CAT + GOGH)
    assert listing.run() == 0
    names = {"cat.tv.safetensors", "cat.json", "Van_Gogh.tv.safetensors", "Van_Gogh.json"}
    assert {p.name for p in listing.folder.iterdir()} == names | {
        "combined.tv.safetensors",
        "interference.md",
    }
    cat = load_task_vector(listing.folder / "cat.tv.safetensors")
    gogh = load_task_vector(listing.folder / "Van_Gogh.tv.safetensors")
    both = load_task_vector(listing.folder / "combined.tv.safetensors")
    assert both.same_deltas(cat * 1.5 + gogh * 2.0)
    assert both.provenance.recommended.strength == 1
    assert cat.provenance.recommended.strength == 1.5
    assert cat.provenance.recipe["retained_set"]
    assert gogh.provenance.recipe["retained_set"] is None
    table = (listing.folder / "interference.md").read_text("utf-8")
    assert "cat at 1.5, Van Gogh at 2" in table
    assert "| cat | +150.0% |" in table
    before = {p.name: p.read_bytes() for p in listing.folder.iterdir()}
    work = Work()
    assert listing.run(work) == 0
    assert work.asked == []
    assert {p.name: p.read_bytes() for p in listing.folder.iterdir()} == before


@pytest.mark.training
def test_the_vector_is_the_canvas_s(listing: Any, pack: Any) -> None:
    from host_support import host_steps as steps

    stock = importlib.import_module("tverase_pack.nodes.host.app.stock_loaders")
    listing.write(CAT.replace(", retained: [a dog | dog]", ""))
    assert listing.run() == 0
    with torch.inference_mode():
        model, clip, _ = stock.load_checkpoint("tiny.safetensors")
    drawn, _ = steps.node(
        pack,
        "ConceptSetFromPrompt",
        **{"model": model, "clip": clip, "prompt": "a cat", "concept": "cat", "caption": ""},
        **{"count": 2, "width": 64, "height": 64, "seed": 0, "steps": 2, "cfg": 1.0},
        **{"sampler_name": "dpmpp_2m", "scheduler": "karras", "batch_size": 2},
    )
    tuned, _, given = steps.node(
        pack,
        "ConceptFinetune",
        **{"model": model, "concept_set": drawn, "steps": 2, "learning_rate": 1e-3, "seed": 0},
        **{"batch_size": 2, "accumulation": 1, "flip": True, "ema": True, "rank": 0},
        **{"weight_decay": 0.01, "gradient_clip": 1.0},
    )
    (vector,) = steps.node(pack, "ExtractTaskVector", base=model, tuned=tuned, concept="")
    made = load_task_vector(listing.folder / "cat.tv.safetensors")
    assert made.same_deltas(vector)
    assert made.same_deltas(given)
    assert made.base == vector.base


def test_the_examples_are_right(listing: Any) -> None:
    text = (ROOT / "docs" / "erase-a-list.md").read_text("utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    listing.path.write_text(block, "utf-8")
    plan = listing.run_module.read_list(listing.path)
    assert [(c.name, c.strength) for c in plan.concepts] == [("cat", 1.5), ("Van Gogh", None)]
    with pytest.raises(ConfigError, match=r"no 'my_model\.safetensors' in models"):
        listing.run_module.checked_settings(plan)
    shipped = listing.run_module.read_list(ROOT / "demo" / "erase_list.yaml")
    cat, dog = listing.run_module.checked_settings(shipped)
    assert (cat.search["target"], cat.finetune["guidance"]) == (0.12, 5)
    assert (dog.search, dog.concept.strength) == ({}, 1.1)


def test_only_what_changed_is_done_again(listing: Any) -> None:
    work = Work()
    listing.write(CAT + GOGH)
    assert listing.run(work) == 0
    assert work.asked == [
        "vector of cat",
        "strength of cat",
        "vector of Van Gogh",
        "strength of Van Gogh",
    ]
    work.asked.clear()
    listing.write(CAT.replace("1.5", "3") + GOGH)  # the vector stays
    assert listing.run(work) == 0
    assert work.asked == ["strength of cat"]
    both = load_task_vector(listing.folder / "combined.tv.safetensors")
    assert torch.equal(both.deltas[KEY], 3 * (torch.arange(4) + 3.0) + 2 * (torch.arange(4) + 8.0))
    assert read_provenance(listing.folder / "cat.tv.safetensors")[1].recommended.strength == 3
    for change in (
        lambda t: t.replace("[a cat]", "[a kitten]"),
        lambda t: t.replace("1e-3", "2e-3").replace("a cat", "a kitten"),
    ):
        work.asked.clear()
        listing.path.write_text(change(listing.path.read_text("utf-8")), "utf-8")
        assert listing.run(work) == 0
        assert "vector of cat" in work.asked
    assert "vector of Van Gogh" in work.asked  # the learning rate is everyone's
    work.asked.clear()
    vector = listing.folder / "cat.tv.safetensors"
    vector.write_bytes(vector.read_bytes()[:-1])
    assert listing.run(work) == 0
    assert work.asked == ["vector of cat", "strength of cat"]


def test_how_a_fine_tune_runs_changes_no_result(listing: Any) -> None:
    work = Work()
    listing.write(CAT)
    assert listing.run(work) == 0
    work.asked.clear()
    listing.write(CAT, START.replace("steps: 2, l", "checkpoint_every: 5, steps: 2, l"))
    assert listing.run(work) == 0
    assert work.asked == []
    assert not (listing.folder / "interference.md").exists()  # one concept has no other


def test_another_base_makes_everything_anew(
    listing: Any, tiny_checkpoint: Path, comfy_host: Any
) -> None:
    from host_support import tiny_host

    work = Work()
    listing.write(CAT)
    assert listing.run(work) == 0
    tiny_host.save_checkpoint(tiny_checkpoint.with_name("other.safetensors"), seed=9)
    listing.write(CAT, START.replace("tiny.", "other."))
    work.asked.clear()
    assert listing.run(work) == 0
    assert work.asked == ["vector of cat", "strength of cat"]


def test_a_stop_keeps_what_is_finished(listing: Any) -> None:
    work = Work()
    work.fault = KeyboardInterrupt()
    listing.write(CAT + GOGH)
    with pytest.raises(KeyboardInterrupt):
        listing.run(work)
    assert {p.name for p in listing.folder.iterdir()} == {"cat.json", "cat.tv.safetensors"}
    work.fault = None
    work.asked.clear()
    assert listing.run(work) == 0
    assert work.asked == ["vector of Van Gogh", "strength of Van Gogh"]


def test_one_failing_concept_does_not_stop_the_others(
    listing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Work()
    work.fault = InversionError("no trigger found")
    listing.write(GOGH + CAT)
    assert listing.run(work) == 1
    said = capsys.readouterr().out
    assert "Van Gogh: failed: no trigger found" in said
    assert "not finished: Van Gogh" in said
    assert listing.status("Van_Gogh")["failed"] == "no trigger found"
    assert listing.status("cat")["strength"] == 1.5
    assert not (listing.folder / "combined.tv.safetensors").exists()
    work.fault = None
    assert listing.run(work) == 0
    assert listing.status("Van_Gogh")["failed"] == ""


def test_two_processes_share_the_list_and_the_main_one_combines(
    listing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    listing.write(CAT + GOGH)
    second, first = Work(), Work()
    assert listing.run(second, Part(1, 2)) == 0
    assert second.asked == ["vector of Van Gogh", "strength of Van Gogh"]
    assert not (listing.folder / "combined.tv.safetensors").exists()
    assert listing.run(first, Part(0, 2)) == 0
    assert first.asked == ["vector of cat", "strength of cat"]
    assert (listing.folder / "combined.tv.safetensors").exists()


def test_accelerate_shares(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = importlib.import_module("tverase_pack.nodes.concept_list.shares")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert shares.launched_processes().share((1, 2)) == [1, 2]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ConfigError, match="pip install accelerate"):
        shares.launched_processes()


AUTO = "  - {name: cat, prompts: [a cat], strength: auto, retained: [a dog | dog]}\n"
MISTAKES: list[tuple[Callable[[str], str], str]] = [
    (lambda t: t + "   - [", "cannot be read as YAML"),
    (lambda t: "", "expected lines such as `checkpoint: ...`"),
    (lambda t: t.replace("checkpoint", "chekpoint"), "Did you mean 'checkpoint'"),
    (lambda t: t.replace("checkpoint: tiny.safetensors", ""), "`checkpoint` is missing"),
    (lambda t: t.replace("tiny.", "none."), "no 'none.safetensors' in models/checkpoints"),
    (lambda t: t.partition("concepts:")[0] + "concepts: []", "lists nothing"),
    (lambda t: t + CAT.replace("cat", "CAT"), "would share the file"),
    (lambda t: t.replace("name: cat", "name: combined"), "Give another name"),
    (lambda t: t.replace("name: cat", "name: 5"), "Put it in quotes"),
    (lambda t: t.replace("prompts: [a cat], ", ""), "either `prompts`"),
    (lambda t: t.replace("prompts: [a cat]", "images: none"), "No folder 'none'"),
    (lambda t: t.replace("prompts: [a cat]", "images: ../.."), "No folder '../..'"),
    (lambda t: t.replace("strength: 1.5", "strength: -1"), "expected a number above 0, or auto"),
    (lambda t: t.replace("strength: 1.5", "strength: auto"), "needs a judge"),
    (lambda t: t.replace("a dog | dog", "a cat | cat"), "cannot both go and stay"),
    (lambda t: t.replace("a dog | dog", "a dog |"), "lacks a part"),
    (lambda t: t.replace("learning_rate", "learnin_rate"), "Did you mean 'learning_rate'"),
    (lambda t: t.replace("steps: 2, cfg", "steps: two, cfg"), "steps is 'two'; expected a whole"),
    (lambda t: t.replace("1e-3", "5"), "learning_rate is 5.0; expected 1e-08 to 1"),
    (lambda t: t.replace("1e-3", "fast"), "learning_rate is 'fast'; expected a number"),
    (lambda t: t.replace("steps: 2, cfg", "sampler_name: oiler, cfg"), "'oiler' is unknown"),
    (
        lambda t: t.replace("steps: 2, cfg", 'caption: "a\\nb", steps: 2, cfg'),
        "concept 'cat', caption: There are 2 lines of captions for 1 prompts",
    ),
    (
        lambda t: t.replace("prompts: [a cat]", "images: 'demo: cats'").replace(
            "steps: 2, cfg", 'caption: "{prompt}", steps: 2, cfg'
        ),
        "pictures from a folder have no prompts",
    ),
    (
        lambda t: t.replace("prompts: [a cat]", "images: 'demo: cats'").replace(
            "steps: 2, cfg", "contrast: an animal, steps: 2, cfg"
        ),
        "`contrast` is what prompts say without the concept",
    ),
    (
        lambda t: t.replace("steps: 2, cfg", 'contrast: "a\\nb", steps: 2, cfg'),
        "concept 'cat', contrast: There are 2 lines of contrasts for 1 prompts",
    ),
    (
        lambda t: t.replace("prompts: [a cat]", "images: 'demo: cats'").replace(
            "accumulation: 1", "accumulation: 1, guidance: 5"
        ),
        "guidance needs a text that names the concept",
    ),
    (lambda t: t.replace("accumulation: 1", "accumulation: 3"), "accumulation"),
    (lambda t: t.replace("output: list", "output: ../list"), "leads outside output/loras"),
    (lambda t: t.replace("output: list", "dtype: half\noutput: list"), "float32 or bfloat16"),
    (lambda t: t.replace("finetune: {", "finetune: [").replace("1}", "1]", 1), "such as `steps:"),
    (lambda t: t.replace("output: list", "judge: x\noutput: list"), "no 'x' in models/clip_vision"),
]


@pytest.mark.parametrize(("mistake", "sentence"), MISTAKES, ids=[m[1] for m in MISTAKES])
def test_mistakes_are_answered_before_weights_are_read(
    listing: Any, monkeypatch: pytest.MonkeyPatch, mistake: Callable[[str], str], sentence: str
) -> None:
    def loads(plan: Any) -> Any:
        raise AssertionError("weights are read")

    monkeypatch.setattr(listing.run_module, "load_base", loads)
    listing.write(CAT)
    text = listing.path.read_text("utf-8")
    changed = mistake(text)
    assert changed != text
    listing.path.write_text(changed, "utf-8")
    with pytest.raises((ConfigError, FileNotFoundError)) as caught:
        listing.run()
    assert sentence in str(caught.value)
    assert not listing.folder.exists()


def test_an_automatic_strength_needs_prompts_that_stay(listing: Any, pack: Any) -> None:
    start = START.replace("checkpoint: tiny.safetensors", "checkpoint: demo")
    listing.write(AUTO.replace(", retained: [a dog | dog]", ""), start)
    with pytest.raises(ConfigError, match="strength auto needs `retained`"):
        listing.run()
    listing.write(AUTO, start)
    plan = listing.run_module.read_list(listing.path)
    (settings,) = listing.run_module.checked_settings(plan)
    assert plan.judge == "demo"
    assert settings.inversion["prompt"] == settings.search["prompt"] == "a cat"
    assert settings.search["width"] == 64  # as the pictures are drawn
    assert settings.search["sampling_steps"] == 2
    assert settings.finetune["learning_rate"] == 1e-3  # which YAML takes for text


def test_a_judge_is_fitted_to_drawn_pictures(
    listing: Any, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    judges = importlib.import_module("tverase_pack.nodes.concept_list.judges")
    stock = importlib.import_module("tverase_pack.nodes.host.app.stock_loaders")
    colours = {"cat": 0, "dog": 1, "tree": 2}

    def pictures(name: str, count: int) -> torch.Tensor:
        images = torch.rand((count, 4, 4, 3), generator=torch.Generator().manual_seed(3)) / 4
        images[..., colours[name]] += 0.7
        return images

    class Vision:
        def encode_image(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"image_embeds": images.mean((1, 2))}

    class Same:
        model = property(lambda self: self)
        clip = vae = None

        def get_model_object(self, name: str) -> Any:
            return self

        def process_latent_out(self, latents: torch.Tensor) -> torch.Tensor:
            return latents

        decode = process_latent_out

    def draw(self: Any, model: Any, clip: Any, prompt: str, name: str, **widgets: Any) -> Any:
        assert prompt == f"a {name}"
        return None, {"samples": pictures(name, widgets["count"])}

    monkeypatch.setattr(stock, "load_clip_vision", lambda file: Vision())
    monkeypatch.setattr(judges.ConceptSetFromPrompt, "draw", draw)
    monkeypatch.setattr(Same, "vae", Same())
    start = START.replace("checkpoint: tiny.safetensors", "checkpoint: demo")
    listing.write(AUTO.replace("dog]", "dog, a tree]"), start)
    (settings,) = listing.run_module.checked_settings(listing.run_module.read_list(listing.path))
    shown = type("Shown", (), {"latents": pictures("cat", 20)})()
    judge = judges.judge_for("vision.safetensors", Same(), settings, shown)
    for name in colours:
        for other in colours:
            seen = judge.score(pictures(other, 3), name)
            assert bool((seen > 0.5).all()) == (name == other)


def test_each_process_sees_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*script.VISIBLE, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    script.take_own_gpu()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    script.take_own_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    assert os.environ["HIP_VISIBLE_DEVICES"] == "1"
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "0")  # taken back with the others


def test_the_command_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["x.yaml", "--comfyui", str(tmp_path)]) == 1
    assert "no ComfyUI at" in capsys.readouterr().err
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "cli_args.py").touch()
    assert script.main([str(tmp_path / "x.yaml"), "--comfyui", str(tmp_path)]) == 1
    assert "there is no file" in capsys.readouterr().err


def test_a_console_that_lacks_a_names_letters_stops_no_list(
    pack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.concept_list import run

    told = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(told, "cp1252"))
    assert run.command(str(tmp_path / "nowhere.yaml")) == 1
    run._say("猫: done")
    assert told.getvalue().split() == [rb"\u732b:", b"done"]
