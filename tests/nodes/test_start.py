"""A real ComfyUI server starts with the pack in it."""

from __future__ import annotations

from typing import Any

import pytest

from host_support.client import Client, PromptFailed


def test_pack_exports_what_the_host_reads(pack: Any) -> None:
    assert pack.NODE_CLASS_MAPPINGS
    assert set(pack.NODE_DISPLAY_NAME_MAPPINGS) == set(pack.NODE_CLASS_MAPPINGS)
    assert all(name.startswith("TVErase") for name in pack.NODE_CLASS_MAPPINGS)


def test_server_lists_our_nodes(server: Client, pack: Any) -> None:
    listed = {name for name in server.object_info() if name.startswith("TVErase")}
    assert listed == set(pack.NODE_CLASS_MAPPINGS)


def test_a_refused_prompt_tells_why(server: Client) -> None:
    with pytest.raises(PromptFailed, match="NoSuchNode"):
        server.run({"1": {"class_type": "NoSuchNode", "inputs": {}}})


def test_server_draws_with_the_tiny_checkpoint(server: Client) -> None:
    text = {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["1", 1]}}
    prompt = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tiny.safetensors"}},
        "2": text,
        "3": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1},
        },
        "4": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["1", 0],
                "positive": ["2", 0],
                "negative": ["2", 0],
                "latent_image": ["3", 0],
                "seed": 1,
                "steps": 2,
                "cfg": 1.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "tiny"}},
    }
    (image,) = server.run(prompt)["6"]["images"]
    assert server.view(image).startswith(b"\x89PNG")
    assert (server.base / "output" / image["filename"]).exists()


def test_server_takes_uploads(server: Client) -> None:
    name = server.upload("note.png", b"\x89PNG not really")
    assert (server.base / "input" / name).exists()
