"""Each mistake on the canvas is answered by a sentence on the node, and does no harm."""

from __future__ import annotations

import copy
import io
import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from host_support.client import Client, PromptFailed
from host_support.mistakes import MISTAKES, Graph, correct
from tverase_core.files.task_vector_file import save_task_vector
from tverase_core.inversion.files import save_inversion_set
from tverase_core.inversion.inversion_set import InversionSet
from tverase_core.vector.provenance import Provenance
from tverase_core.vector.task_vector import TaskVector

pytestmark = pytest.mark.training
DATE = "2026-01-31T12:00:00Z"
RUNS = itertools.count()
BIAS = "diffusion_model.out.2.bias"


def changed(graph: Graph, changes: dict[str, Any]) -> Graph:
    """A copy with other inputs, named node__input; None takes the wire off."""
    made = copy.deepcopy(graph)
    for name, value in changes.items():
        place, _, key = name.partition("__")
        made[place]["inputs"][key] = value
        if value is None:
            del made[place]["inputs"][key]
    return made


def needed_for(graph: Graph, *wanted: str) -> Graph:
    """Only the nodes that the wanted ones need."""
    kept: Graph = {}

    def keep(name: str) -> None:
        if name not in kept:
            kept[name] = graph[name]
            for value in graph[name]["inputs"].values():
                if isinstance(value, list):
                    keep(value[0])

    for name in wanted:
        keep(name)
    return kept


def triggers(width: int, text_encoder: str) -> InversionSet:
    """Four embeddings that nobody searched."""
    ones = torch.ones(4)
    source = torch.Generator().manual_seed(1)
    return InversionSet(
        vectors={"l": 0.02 * torch.randn(4, 1, width, generator=source)},
        losses=ones,
        seeds=torch.arange(4),
        valid=ones.bool(),
        concept="cat",
        template="a {}",
        text_encoder=text_encoder,
        hit_rates=ones,
    )


def write_task_vectors(folder: Path, pack: Any) -> None:
    """Of another family, of other weights, half a download, a LoRA, a web page, of the future."""
    from tverase_pack.nodes.demo_nodes import MODEL_FOLDER
    from tverase_pack.nodes.host.app.demo_model import load_demo_model
    from tverase_pack.nodes.host.model.weights import fingerprint

    from host_support import tiny_host

    folder.mkdir(parents=True, exist_ok=True)
    story = Provenance(concepts=("cat",))
    family = TaskVector({BIAS: torch.ones(4)}, fingerprint(tiny_host.build_model()), story)
    save_task_vector(folder / "family.tv.safetensors", family)
    demo = fingerprint(load_demo_model(MODEL_FOLDER)[0])
    other = TaskVector({BIAS: torch.ones(24)}, replace(demo, sample_sha256="0" * 64), story)
    save_task_vector(folder / "merge.tv.safetensors", other)
    whole = (folder / "merge.tv.safetensors").read_bytes()
    (folder / "half.tv.safetensors").write_bytes(whole[:-20])
    (folder / "page.tv.safetensors").write_bytes(b"<!DOCTYPE html><title>404</title>")
    future = whole.replace(b'"tverase.format":"1.', b'"tverase.format":"2.')
    (folder / "future.tv.safetensors").write_bytes(future)
    lora = {"lora_unet_x.lora_up.weight": torch.ones(2, 2)}
    save_file(lora, folder / "lora.tv.safetensors")


@pytest.fixture(scope="module")
def host(server: Client, pack: Any) -> Client:
    """The server, with files that people may choose by mistake."""
    loras = server.base / "output" / "loras"
    sets = server.base / "output" / "inversion_sets"
    write_task_vectors(loras, pack)
    sets.mkdir(parents=True, exist_ok=True)
    for name, width in (("demo", 192), ("narrow", 32)):
        path = sets / f"{name}.inversions.safetensors"
        save_inversion_set(path, triggers(width, "0" * 64), "stable-diffusion-v1", DATE)
    shutil.copy(sets / "demo.inversions.safetensors", loras / "set.tv.safetensors")
    return server


def pixels(client: Client, graph: Graph) -> list[bytes]:
    """What the base and the erased model draw, past the server's cache."""
    fresh = next(RUNS)
    for name in ("tune", "base"):  # an unknown input is ignored but is part of the cache's key
        graph[name]["inputs"]["tverase_test_run"] = fresh
    outputs = client.run(needed_for(graph, "look before", "look after"))
    shown = [outputs[name]["images"][0] for name in ("look before", "look after")]
    return [Image.open(io.BytesIO(client.view(image))).tobytes() for image in shown]


@pytest.fixture(scope="module")
def expected(host: Client) -> list[bytes]:
    """What base and erased model draw before anything went wrong."""
    return pixels(host, correct())


@pytest.mark.parametrize("group", MISTAKES)
def test_mistakes_are_answered_and_the_next_run_works(
    group: str, host: Client, expected: list[bytes]
) -> None:
    wrong = {}
    for name, wanted, changes, words in MISTAKES[group]:
        graph = needed_for(changed(correct(), changes), wanted)
        try:
            host.run(graph)
            wrong[name] = "no error"
        except PromptFailed as failure:
            if words not in str(failure):
                wrong[name] = str(failure)
    assert not wrong
    assert pixels(host, correct()) == expected


def test_many_mistakes_are_walked() -> None:
    names = [mistake[0] for group in MISTAKES.values() for mistake in group]
    assert len(names) == len(set(names)) >= 25
