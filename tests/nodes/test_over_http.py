"""The straight path over HTTP on a real server, as a user's browser drives it."""

from __future__ import annotations

import copy
import re
import time
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from host_support.client import Client, PromptFailed

Graph = dict[str, dict[str, Any]]
# Of an error: "node: module.Class: sentence". A file's place is a machine's own.
PLACE = re.compile(r"custom_nodes|: \S*/\S*: ")


def item(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def graph(seed: int = 1) -> Graph:
    """Load, draw the concept, fine-tune, extract, apply, draw; and save both."""
    return {
        "load": item("CheckpointLoaderSimple", ckpt_name="tiny.safetensors"),
        "set": item(
            "TVEraseConceptSetFromPrompt",
            model=["load", 0],
            clip=["load", 1],
            prompt="a cat\na cat in the snow",
            concept="cat",
            count=3,
            width=64,
            height=64,
            seed=seed,
            steps=2,
            cfg=3.0,
            sampler_name="euler",
            scheduler="normal",
            batch_size=2,
            caption="",
        ),
        "tune": item(
            "TVEraseConceptFinetune",
            model=["load", 0],
            concept_set=["set", 0],
            steps=3,
            learning_rate=1e-3,
            batch_size=4,
            accumulation=2,
            seed=seed,
            flip=True,
            ema=True,
            weight_decay=0.01,
            gradient_clip=1.0,
            rank=0,
        ),
        "extract": item(
            "TVEraseExtractTaskVector", base=["load", 0], tuned=["tune", 0], concept=""
        ),
        "mask": item("TVEraseBlockMask", model=["load", 0], preset="full", rules=""),
        "apply": item(
            "TVEraseApplyNegatedTV",
            model=["load", 0],
            task_vector=["extract", 0],
            strength=1.0,
            other_weights="refuse",
            block_mask=["mask", 0],
        ),
        "text": item("CLIPTextEncode", text="a cat", clip=["load", 1]),
        "empty": item("EmptyLatentImage", width=64, height=64, batch_size=1),
        "before": sampler("load", seed),
        "after": sampler("apply", seed),
        "see before": item("VAEDecode", samples=["before", 0], vae=["load", 2]),
        "see after": item("VAEDecode", samples=["after", 0], vae=["load", 2]),
        "grid": item(
            "TVEraseBeforeAfterGrid",
            before=["see before", 0],
            after=["see after", 0],
            title="a cat",
            columns=4,
        ),
        "image": item("SaveImage", images=["see after", 0], filename_prefix="erased"),
        "look": item("PreviewImage", images=["grid", 0]),
        "save": item(
            "TVEraseSaveTaskVector",
            task_vector=["extract", 0],
            filename_prefix="task_vectors/cat",
            dtype="float32",
        ),
    }


def sampler(model: str, seed: int) -> dict[str, Any]:
    return item(
        "KSampler",
        model=[model, 0],
        positive=["text", 0],
        negative=["text", 0],
        latent_image=["empty", 0],
        seed=seed,
        steps=2,
        cfg=1.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
    )


def changed(base: Graph, **inputs: Any) -> Graph:
    """A copy with other inputs, named node__input."""
    made = copy.deepcopy(base)
    for name, value in inputs.items():
        place, _, key = name.partition("__")
        made[place]["inputs"][key] = value
    return made


def with_outputs(base: Graph, *wanted: str) -> Graph:
    """Only the nodes that the wanted ones need."""
    kept: Graph = {}

    def keep(name: str) -> None:
        if name not in kept:
            kept[name] = base[name]
            for value in base[name]["inputs"].values():
                if isinstance(value, list):
                    keep(value[0])

    for name in wanted:
        keep(name)
    return kept


needs_training = pytest.mark.training


def test_every_node_is_described(server: Client, pack: Any) -> None:
    known = server.object_info()
    for name in pack.NODE_CLASS_MAPPINGS:
        info = known[name]
        assert info["description"], name
        assert info["category"] == "model/erasure", name
        assert len(info["output_tooltips"]) == len(info["output"]), name
        for group in info["input"].values():
            for key, (_, *options) in group.items():
                assert options, f"{name}.{key} has no options"
                assert options[0].get("tooltip"), f"{name}.{key} has no tooltip"


@needs_training
def test_the_straight_path(server: Client) -> None:
    outputs = server.run(graph())
    (image,) = outputs["image"]["images"]
    assert server.view(image).startswith(b"\x89PNG")
    for shown in ("tune", "mask", "grid"):
        (picture,) = outputs[shown]["images"]
        assert server.view(picture).startswith(b"\x89PNG"), shown
    (place,) = outputs["save"]["text"]
    assert (server.base / "output" / place).is_file()
    assert place.startswith("loras/task_vectors/cat_")


@needs_training
def test_a_saved_vector_is_offered_at_once(server: Client) -> None:
    """A file saved after the page was opened loads here, and in the stock loader."""
    straight = graph()
    outputs = server.run(changed(with_outputs(straight, "save"), save__filename_prefix="fresh"))
    name = outputs["save"]["text"][0].removeprefix("loras/")
    (choices, *_) = server.object_info()["TVEraseLoadTaskVector"]["input"]["required"]["file"]
    assert name in choices
    again: Graph = {
        **straight,
        "extract": item("TVEraseLoadTaskVector", file=name),
        "other": sampler("stock", 1),
        "stock": item(
            "LoraLoaderModelOnly", model=["load", 0], lora_name=name, strength_model=-1.0
        ),
        "see other": item("VAEDecode", samples=["other", 0], vae=["load", 2]),
        "image two": item("SaveImage", images=["see other", 0], filename_prefix="stock"),
    }
    outputs = server.run(with_outputs(again, "image", "image two"))
    ours, stock = (server.view(outputs[n]["images"][0]) for n in ("image", "image two"))
    assert pixels(ours) == pixels(stock)


def pixels(png: bytes) -> bytes:
    import io

    from PIL import Image

    return Image.open(io.BytesIO(png)).tobytes()


@needs_training
@pytest.mark.parametrize(
    ("wanted", "changes", "sentence"),
    [
        ("image", {"set__concept": " "}, "The concept has no name. Write"),
        ("image", {"set__prompt": "\n"}, "There is no prompt. Write one"),
        ("image", {"tune__accumulation": 3}, "accumulation must divide batch_size, got 3 for 4"),
        ("image", {"extract__tuned": ["load", 0]}, "exactly the base's weights"),
        ("image", {"mask__preset": "custom", "mask__rules": "IN99"}, "IN99"),
        ("save", {"save__filename_prefix": "../../escaped"}, "outside"),
    ],
)
def test_errors_are_sentences_and_do_no_harm(
    server: Client, wanted: str, changes: dict[str, Any], sentence: str
) -> None:
    correct = with_outputs(graph(), wanted)
    with pytest.raises(PromptFailed) as failure:
        server.run(changed(correct, **changes))
    assert sentence in str(failure.value)
    assert PLACE.search(str(failure.value)) is None  # what people see, and paste into reports
    assert server.run(correct)[wanted]


def test_a_strength_below_zero_never_starts(server: Client) -> None:
    with pytest.raises(PromptFailed, match="smaller than min"):
        server.run(with_outputs(changed(graph(), apply__strength=-1.0), "image"))


def test_bad_files_over_http(server: Client) -> None:
    folder = server.base / "output" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    lora = {"lora_unet_x.lora_up.weight": torch.ones(2, 2)}
    save_file(lora, folder / "other.tv.safetensors")
    start = graph()
    cases = {
        "other.tv.safetensors": "other.tv.safetensors",
        "nothing.tv.safetensors": "No task vector",
        "../../tiny.safetensors": "No task vector",
    }
    for name, sentence in cases.items():
        bad = {**start, "extract": item("TVEraseLoadTaskVector", file=name)}
        with pytest.raises(PromptFailed) as failure:
            server.run(with_outputs(bad, "image"))
        assert sentence in str(failure.value)


@needs_training
def test_pictures_of_two_sizes_of_latent_are_refused(server: Client) -> None:
    """A concept set from pictures that were encoded by the wrong VAE fails in words."""
    straight = graph()
    straight["wide"] = item("EmptySD3LatentImage", width=64, height=64, batch_size=2)
    straight["set"] = item(
        "TVEraseConceptSetFromLatents",
        model=["load", 0],
        clip=["load", 1],
        latents=["wide", 0],
        concept="cat",
        caption="",
    )
    with pytest.raises(PromptFailed, match="16 latent channels, this model has 4"):
        server.run(with_outputs(straight, "image"))


@needs_training
def test_pictures_of_the_users_own(server: Client) -> None:
    straight = graph()
    straight["set"] = item(
        "TVEraseConceptSetFromImages",
        model=["load", 0],
        clip=["load", 1],
        vae=["load", 2],
        images=["see before", 0],
        concept="cat",
        caption="a cat",
    )
    assert server.run(with_outputs(straight, "image"))["image"]["images"]


@needs_training
def test_cancel_in_the_middle_and_run_again(server: Client) -> None:
    correct = with_outputs(graph(seed=77), "image")
    expected = pixels(server.view(server.run(correct)["image"]["images"][0]))
    began = server.submit(changed(correct, tune__steps=5000))
    time.sleep(2.0)  # what comes before the fine-tune is in the server's cache
    server.interrupt()
    entry = server.wait(began, stalled_s=60)
    stopped = dict(entry["status"]["messages"])["execution_interrupted"]
    assert stopped["node_type"] == "TVEraseConceptFinetune"
    server.post("/free", {"unload_models": True, "free_memory": True})  # nothing from the cache
    again = server.run(changed(correct, image__filename_prefix="again"))
    assert pixels(server.view(again["image"]["images"][0])) == expected
