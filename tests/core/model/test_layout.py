"""Every weight of the real models is placed, and fingerprints tell models apart."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest
import torch

from host_support.places import DATA
from tverase_core.errors import (
    BaseMismatchError,
    ConfigError,
    UnknownBlockError,
    UnknownKeyError,
)
from tverase_core.model.fingerprint import (
    BaseFingerprint,
    architecture_of,
    check_base,
    key_digest,
    sample_sha256,
    sampled_runs,
)
from tverase_core.model.layout import ModelLayout, detect_layout
from tverase_core.model.mask_text import parse_mask

TABLES = json.loads(gzip.decompress((DATA / "model_keys.json.gz").read_bytes()))
SD1_BLOCKS = (
    "TIME",
    *(f"IN{i:02d}" for i in range(12)),
    "M00",
    *(f"OUT{i:02d}" for i in range(12)),
    "FINAL",
)
SDXL_BLOCKS = (
    "TIME",
    *(f"IN{i:02d}" for i in range(9)),
    "M00",
    *(f"OUT{i:02d}" for i in range(9)),
    "FINAL",
)


@pytest.mark.parametrize(
    ("model", "blocks"),
    [
        ("sd15", SD1_BLOCKS),
        ("sd21", SD1_BLOCKS),
        ("sdxl", SDXL_BLOCKS),
        ("sdxl_refiner", SD1_BLOCKS),
    ],
)
def test_every_unet_key_is_placed(model: str, blocks: tuple[str, ...]) -> None:
    layout = detect_layout(TABLES[model])
    assert layout.name == "sd-unet"
    assert layout.blocks() == blocks
    kinds = {layout.kind(key) for key in TABLES[model]}
    assert kinds == {"self_attn", "cross_attn", "ff", "conv", "norm", "proj", "embed"}


@pytest.mark.parametrize(("tower", "layers"), [("l", 12), ("g", 32), ("h", 24)])
def test_every_clip_key_is_placed(tower: str, layers: int) -> None:
    keys = TABLES[f"clip_{tower}"]
    blocks = tuple(f"TE_{tower.upper()}{i:02d}" for i in range(layers))
    wanted = {*blocks, f"TE_{tower.upper()}_EMBED", f"TE_{tower.upper()}_FINAL"}
    assert set(detect_layout(keys).blocks()) == wanted
    assert set(detect_layout(["text_encoders." + key for key in keys]).blocks()) == wanted
    assert detect_layout(keys).blocks()[:layers] == blocks


def test_norms_by_shape() -> None:
    """Independent of the tables: in a UNet every 1-D *weight* is a normalisation's scale."""
    for model in ("sd15", "sd21", "sdxl", "sdxl_refiner"):
        layout = detect_layout(TABLES[model])
        for key, shape in TABLES[model].items():
            if key.endswith(".weight"):
                assert (layout.kind(key) == "norm") == (len(shape) == 1), key


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("input_blocks.0.0.weight", ("IN00", "conv")),
        ("input_blocks.1.0.in_layers.0.weight", ("IN01", "norm")),
        ("input_blocks.1.0.emb_layers.1.bias", ("IN01", "embed")),
        ("input_blocks.3.0.op.weight", ("IN03", "conv")),
        ("input_blocks.10.0.out_layers.3.weight", ("IN10", "conv")),
        ("middle_block.1.transformer_blocks.0.attn1.to_q.weight", ("M00", "self_attn")),
        ("output_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", ("OUT04", "cross_attn")),
        ("output_blocks.4.1.transformer_blocks.9.ff.net.0.proj.bias", ("OUT04", "ff")),
        ("output_blocks.4.1.norm.weight", ("OUT04", "norm")),
        ("output_blocks.4.1.transformer_blocks.0.norm2.weight", ("OUT04", "norm")),
        ("output_blocks.4.1.proj_in.weight", ("OUT04", "proj")),
        ("output_blocks.2.1.conv.weight", ("OUT02", "conv")),
        ("time_embed.0.weight", ("TIME", "embed")),
        ("label_emb.0.0.weight", ("TIME", "embed")),
        ("out.0.weight", ("FINAL", "norm")),
        ("out.2.weight", ("FINAL", "conv")),
    ],
)
def test_places(key: str, place: tuple[str, str]) -> None:
    assert ModelLayout("sd-unet").locate("diffusion_model." + key) == place


def test_context_weights_take_the_context_width() -> None:
    layout = detect_layout(TABLES["sd15"])
    found = [key for key in TABLES["sd15"] if layout.reads_context(key)]
    assert len(found) == 32
    assert {TABLES["sd15"][key][1] for key in found} == {768}


def test_unknown_key_is_an_error() -> None:
    for name in ("sd-unet", "generic"):
        with pytest.raises(UnknownKeyError, match="first_stage"):
            ModelLayout(name).locate("first_stage_model.conv.weight")  # type: ignore[arg-type]
    with pytest.raises(UnknownKeyError, match="attn9"):
        ModelLayout("sd-unet").locate("diffusion_model.input_blocks.1.1.attn9.weight")


@pytest.mark.parametrize(
    ("model", "first", "last", "count"),
    [
        ("sd35_medium", "joint_blocks.0", "final_layer", 5 + 24 + 1),
        ("flux_dev", "double_blocks.0", "final_layer", 5 + 19 + 38 + 1),
        ("sd3_medium", "joint_blocks.0", "final_layer", 5 + 24 + 1),
        ("auraflow", "double_layers.0", "final_linear", 5 + 4 + 2),
        ("wan", "blocks.0", "head", 5 + 2 + 1),
        ("qwen_image", "transformer_blocks.0", "proj_out", 4 + 2 + 2),
    ],
)
def test_transformers_are_placed(model: str, first: str, last: str, count: int) -> None:
    layout = detect_layout(TABLES[model])
    assert layout.name == "dit"
    assert layout.blocks()[-1] == last
    assert len(layout.blocks()) == count
    assert next(b for b in layout.blocks() if b.rpartition(".")[2].isdigit()) == first
    assert "other" not in {layout.kind(key) for key in TABLES[model]}


def test_no_key_of_any_listed_family_is_unlocated() -> None:
    for model in TABLES:
        if not model.startswith("clip_"):
            layout = detect_layout(TABLES[model])
            assert layout.name in ("sd-unet", "dit"), model
            assert all(layout.kind(key) != "other" for key in TABLES[model]), model


def test_transformer_norms_by_shape() -> None:
    """Independent of the tables: a transformer's 1-D weights scale, as norms do."""
    for model in ("sd35_medium", "flux_dev", "qwen_image", "hunyuan_dit"):
        layout = detect_layout(TABLES[model])
        for key, shape in TABLES[model].items():
            if key.endswith((".weight", ".scale")):
                assert (layout.kind(key) == "norm") == (len(shape) == 1), key


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("double_blocks.10.img_attn.qkv.weight", ("double_blocks.10", "self_attn")),
        ("double_blocks.10.txt_attn.proj.bias", ("double_blocks.10", "cross_attn")),
        ("double_blocks.10.txt_attn.norm.key_norm.scale", ("double_blocks.10", "norm")),
        ("double_blocks.0.img_mod.lin.weight", ("double_blocks.0", "embed")),
        ("single_blocks.37.linear2.weight", ("single_blocks.37", "self_attn")),
        ("single_blocks.3.modulation.lin.bias", ("single_blocks.3", "embed")),
        ("joint_blocks.5.x_block.attn2.qkv.weight", ("joint_blocks.5", "self_attn")),
        ("joint_blocks.5.context_block.attn.qkv.weight", ("joint_blocks.5", "cross_attn")),
        ("joint_blocks.5.context_block.mlp.fc1.weight", ("joint_blocks.5", "ff")),
        ("blocks.1.cross_attn.k_img.weight", ("blocks.1", "cross_attn")),
        ("blocks.1.attn2.kv_proj.weight", ("blocks.1", "cross_attn")),
        ("time_in.in_layer.weight", ("time_in", "embed")),
        ("t_embedder.mlp.0.weight", ("t_embedder", "embed")),
        ("pos_embed", ("pos_embed", "embed")),
        ("final_layer.linear.weight", ("final_layer", "proj")),
        ("final_layer.adaLN_modulation.1.bias", ("final_layer", "embed")),
    ],
)
def test_places_in_transformers(key: str, place: tuple[str, str]) -> None:
    assert ModelLayout("dit").locate("diffusion_model." + key) == place


def test_data_flow_order_in_transformers() -> None:
    flux = detect_layout(TABLES["flux_dev"]).blocks()
    assert flux[:5] == ("guidance_in", "img_in", "time_in", "txt_in", "vector_in")
    assert flux[5:24] == tuple(f"double_blocks.{i}" for i in range(19))
    assert flux[24:62] == tuple(f"single_blocks.{i}" for i in range(38))


def test_one_strange_key_makes_the_layout_generic() -> None:
    """Half a layout would mislead."""
    keys = [
        "diffusion_model.double_blocks.3.img_attn.qkv.weight",
        "diffusion_model.double_blocks.10.img_attn.qkv.weight",
        "diffusion_model.flux_capacitor.weight",
        "diffusion_model.tower.layer.2.attn.weight",
        "text_encoders.t5xxl.transformer.encoder.block.2.layer.0.weight",
        "text_encoders.clip_l.transformer.text_model.final_layer_norm.bias",
    ]
    layout = detect_layout(keys)
    assert layout.name == "generic"
    assert layout.locate(keys[0]) == ("double_blocks.3", "other")
    assert layout.blocks() == (
        "flux_capacitor",
        "tower.layer.2",
        "double_blocks.3",
        "double_blocks.10",
        "TE_L_FINAL",
        "text_encoders.t5xxl.transformer.encoder.block.2",
    )
    known = detect_layout([keys[0], keys[4]])
    assert known.name == "dit"
    assert known.blocks() == ("double_blocks.3", layout.blocks()[-1])


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        ("IN05", "double_blocks.5"),
        ("OUT07", "single_blocks.7"),
        ("OUT*", "single_blocks.0"),
        ("double_block.4", "double_blocks.4"),
    ],
)
def test_community_names_of_another_family(asked: str, nearest: str) -> None:
    blocks = detect_layout(TABLES["flux_dev"]).blocks()
    with pytest.raises(UnknownBlockError, match=f"Did you mean '{nearest}'"):
        parse_mask(asked, blocks)


def test_whole_model_masks_work_on_any_architecture() -> None:
    layout = detect_layout(["diffusion_model.tower.2.x.weight", "diffusion_model.lamp.weight"])
    full = parse_mask("full", layout.blocks())
    assert full.coefficient("diffusion_model.tower.2.x.weight", layout) == 1
    part = parse_mask("tower.2=0.5", layout.blocks())
    assert part.coefficient("diffusion_model.tower.2.x.weight", layout) == 0.5
    assert part.coefficient("diffusion_model.lamp.weight", layout) == 0


def test_architecture_names() -> None:
    assert architecture_of(TABLES["sd15"]) == "stable-diffusion-v1"
    assert architecture_of(TABLES["sd21"], "v") == "stable-diffusion-v2-768-v"
    assert architecture_of(TABLES["sdxl"]) == "stable-diffusion-xl-v1-base"
    assert architecture_of(TABLES["sdxl_refiner"]) == "stable-diffusion-xl-v1-refiner"
    assert architecture_of(TABLES["sd35_medium"]) == "stable-diffusion-3.5-medium"
    assert architecture_of(TABLES["sd3_medium"]) == "stable-diffusion-3-medium"
    assert architecture_of(TABLES["flux_dev"]) == "flux-1-dev"
    assert architecture_of(TABLES["wan"]) == "unknown"
    assert architecture_of({"diffusion_model.x": [1]}) == "unknown"


def test_key_digest_ignores_order_and_text_encoders() -> None:
    shapes = {"diffusion_model.b": [2, 3], "diffusion_model.a": []}
    again = {"diffusion_model.a": [], "diffusion_model.b": [2, 3], "text_encoders.c": [4]}
    assert key_digest(shapes) == key_digest(again)
    assert key_digest(shapes) != key_digest({**shapes, "diffusion_model.b": [3, 2]})
    digests = {key_digest(TABLES[model]) for model in TABLES}
    assert len(digests) == len(TABLES)
    with pytest.raises(ConfigError):
        key_digest({})


def test_compare() -> None:
    a, b, c = "a" * 64, "b" * 64, "c" * 64
    base = BaseFingerprint("sd", a, b, "float16")
    assert base.compare(base) == "same"
    assert base.compare(BaseFingerprint("sd", c, b, "float16")) == "different_architecture"
    assert base.compare(BaseFingerprint("sd", a, c, "float16")) == "different_weights"
    assert base.compare(BaseFingerprint("sd", a, c, "float32")) == "unverified"
    assert base.compare(BaseFingerprint("sd", a)) == "unverified"
    assert base.compare(BaseFingerprint("sd-v", a, b, "float16")) == "same"  # equal values
    assert base.compare(BaseFingerprint("sd-v", a, c, "float32")) == "different_weights"
    assert base.compare(BaseFingerprint("sd-v", a)) == "different_weights"


def test_check_base() -> None:
    a, b, c = "a" * 64, "b" * 64, "c" * 64
    base, cousin = BaseFingerprint("sd", a, b), BaseFingerprint("sd", a, c)
    with pytest.raises(BaseMismatchError, match="allow different weights"):
        check_base(base, cousin)
    assert check_base(base, cousin, allow_other_weights=True) == "different_weights"
    with pytest.raises(BaseMismatchError, match="different architecture"):
        check_base(base, BaseFingerprint("xl", c), allow_other_weights=True)


def test_malformed_fingerprint_names_every_problem() -> None:
    with pytest.raises(ConfigError, match=r"architecture.*key_digest.*path would leak"):
        BaseFingerprint("", "xyz", file_name="folder/model.safetensors")


def test_sample_sha256_sees_dtype_and_value_not_order() -> None:
    one, two = torch.ones(3), torch.zeros(2, dtype=torch.bfloat16)
    assert sample_sha256({"a": one, "b": two}) == sample_sha256({"b": two, "a": one})
    assert sample_sha256({"a": one}) != sample_sha256({"a": one.half()})
    assert sample_sha256({"a": one}) != sample_sha256({"a": one * 2})


@pytest.mark.parametrize("numel", [0, 1, 4096, 4097, 3_686_400])
def test_the_sample_is_all_of_a_small_weight_and_both_ends_of_a_large_one(numel: int) -> None:
    runs = sampled_runs(numel)
    assert sum(count for _, count in runs) == min(numel, 4096)
    ends = [first + count for first, count in runs]
    if runs:
        assert (runs[0][0], ends[-1]) == (0, numel)
    if numel >= 2 * 4096:
        assert all(end <= first for end, (first, _) in zip(ends, runs[1:], strict=False))


def test_the_sample_is_the_bytes_that_the_format_names() -> None:
    weight = torch.arange(10_000, dtype=torch.float16).view(100, 100)
    starts = [(10_000 - 256) * i // 15 for i in range(16)]
    picked = torch.cat([weight.view(-1)[start : start + 256] for start in starts])
    assert sample_sha256({"w": weight}) == hashlib.sha256(picked.numpy().tobytes()).hexdigest()
    assert sample_sha256({"w": weight.T}) != sample_sha256({"w": weight})
    fp8, other = (w.to(torch.float8_e4m3fn) for w in (weight, -weight))
    assert sample_sha256({"w": fp8}) != sample_sha256({"w": other})
