"""Diffusers' UNet names against the host's own table."""

from __future__ import annotations

from typing import Any

import pytest

from data.make_keys import UNETS
from host_support.places import DATA
from tverase_core.errors import FormatError
from tverase_core.files.diffusers_names import comfyui_keys, diffusers_names, is_diffusers_unet


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_every_name_goes_where_the_host_puts_it(comfy_host: Any, family: str) -> None:
    import gzip
    import json

    from comfy.utils import unet_to_diffusers

    table = unet_to_diffusers(UNETS[family])
    listed = DATA / "model_keys.json.gz"
    real = json.loads(gzip.decompress(listed.read_bytes()))[family]
    # The host's table also names layers that this family does not have.
    names = {
        name: f"diffusion_model.{place}"
        for name, place in table.items()
        if f"diffusion_model.{place}" in real and not name.startswith("class_embedding.")
    }
    assert is_diffusers_unet(names)
    assert comfyui_keys(names, "unet") == names
    assert set(names.values()) == set(real)
    assert diffusers_names(real) == names


def test_a_foreign_name_is_refused_by_name() -> None:
    with pytest.raises(FormatError, match=r"model\.safetensors: 'down_blocks\.0\.motion"):
        comfyui_keys(["down_blocks.0.motion_modules.0.proj_in.weight"], "model.safetensors")


def test_other_models_have_no_names_in_diffusers_way() -> None:
    assert diffusers_names(["diffusion_model.double_blocks.0.img_attn.qkv.weight"]) == {}
