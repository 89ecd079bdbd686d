"""Files as people have them: parts of models, no models, marks, trained text encoders, names."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tverase_core.errors import (
    BaseMismatchError,
    ConfigError,
    FormatError,
    KeyMismatchError,
    ShapeMismatchError,
)
from tverase_core.files.checkpoint import CheckpointFile
from tverase_core.files.extract import Extraction, extract_between_files
from tverase_core.files.lora.extract import extract_from_lora, is_lora_file
from tverase_core.files.task_vector_file import load_task_vector
from tverase_core.model.fingerprint import check_base

CROSS = "1.transformer_blocks.0.attn2."
IN1, IN3, OUT2 = (
    f"{place}.{CROSS}to_k.weight"
    for place in ("input_blocks.1", "input_blocks.3", "output_blocks.2")
)
CONV = "input_blocks.1.0.in_layers.2.weight"
NORM = "input_blocks.1.1.norm.weight"
TEXT = "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight"


def unet(value: float = 0.0) -> dict[str, Tensor]:
    """Two levels, one layer each (two on the way up), attention in every block."""
    blocks = ["input_blocks.1", "input_blocks.3", *(f"output_blocks.{n}" for n in range(4))]
    held = {f"{block}.0.in_layers.2.weight": torch.zeros(8, 4, 3, 3) for block in blocks}
    held |= {f"{block}.0.in_layers.2.bias": torch.zeros(8) for block in blocks}
    held |= {"input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3)}
    held |= {"input_blocks.2.0.op.weight": torch.zeros(8, 8, 3, 3)}
    held |= {"output_blocks.1.2.conv.weight": torch.zeros(8, 8, 3, 3)}
    held |= {key: torch.zeros(8, 8) for key in (IN1, IN3, OUT2)}
    held |= {NORM: torch.zeros(8), NORM.replace("weight", "bias"): torch.zeros(8)}
    return {key: tensor + value for key, tensor in held.items()}


def checkpoint(
    path: Path, value: float = 0.0, metadata: dict[str, str] | None = None, **more: Tensor
) -> Path:
    path.parent.mkdir(exist_ok=True)
    tensors = {f"model.diffusion_model.{key}": tensor for key, tensor in unet(value).items()}
    save_file(tensors | more, path, metadata)
    return path


def raw(path: Path, table: dict[str, tuple[str, list[int], int]]) -> Path:
    """A file whose tensors are (dtype, shape, bytes) of zeros."""
    header, start = {}, 0
    for name, (dtype, shape, size) in table.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(start))
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "base.safetensors")


def extract(base: Path, tuned: Path, **more: object) -> Extraction:
    return extract_between_files(base, tuned, base.parent / "out.tv.safetensors", **more)  # type: ignore[arg-type]


def deltas(base: Path) -> dict[str, Tensor]:
    found = load_task_vector(base.parent / "out.tv.safetensors").deltas
    return {key.removeprefix("diffusion_model."): delta for key, delta in found.items()}


# Files of edited weights alone, under diffusers' names
EDITED = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": IN1,
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": IN3,
    "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": OUT2,
}


def test_edited_weights_alone_are_read_when_asked_for(base: Path, tmp_path: Path) -> None:
    """Without the other layers' names the base alone says which place is which."""
    tuned = tmp_path / "uce.safetensors"
    save_file({name: torch.ones(8, 8) * n for n, name in enumerate(EDITED, 1)}, tuned)
    with pytest.raises(KeyMismatchError, match=r"lacks .* weights of base.*--absent"):
        extract(base, tuned)
    made = extract(base, tuned, absent="unchanged")
    total = len(unet())
    assert (made.kept, made.unchanged, made.absent) == (3, total - 3, total - 3)
    assert f"of which the tuned file lacks {total - 3}" in made.sentence()
    found = deltas(base)
    assert {key: float(found[key].mean()) for key in found} == dict(
        zip(EDITED.values(), (1.0, 2.0, 3.0), strict=True)
    )


def test_a_part_under_comfyui_names_and_one_with_resnets(base: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "part.safetensors"
    save_file({f"model.diffusion_model.{IN3}": torch.ones(8, 8)}, tuned)
    assert extract(base, tuned, absent="unchanged").absent == len(unet()) - 1
    assert list(deltas(base)) == [IN3]
    name = "down_blocks.1.resnets.0.conv1.weight"  # ESD-u: resnets, and not those of every level
    save_file({name: torch.ones(8, 4, 3, 3)}, tuned)
    extract(base, tuned, absent="unchanged")
    assert list(deltas(base)) == ["input_blocks.3.0.in_layers.2.weight"]


def test_a_part_is_no_base_and_foreign_weights_are_named(base: Path, tmp_path: Path) -> None:
    part = tmp_path / "uce.safetensors"
    save_file({name: torch.ones(8, 8) for name in EDITED}, part)
    with pytest.raises(FormatError, match=r"holds a part of a UNet only.*Give the whole model"):
        extract(part, base, absent="unchanged")
    foreign = "down_blocks.3.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    save_file({foreign: torch.ones(8, 8)}, part)
    with pytest.raises(FormatError, match=r"the base has no weight for down_blocks\.3"):
        extract(base, part, absent="unchanged")
    with pytest.raises(FormatError, match="absent: expected refuse or unchanged"):
        extract(base, part, absent="zero")


NO_MODELS = {
    "text encoder and VAE": ("cond_stage_model.transformer.x.weight", "only tensors of: text"),
    "SDXL's text encoder": ("conditioner.embedders.0.x.weight", "only tensors of: text encoder"),
    "VAE of a checkpoint": ("first_stage_model.decoder.conv_in.weight", "only tensors of: VAE"),
    "EMA alone": ("model_ema.diffusion_modelout2bias", "only tensors of: EMA"),
    "ControlNet": ("control_model.input_blocks.0.0.weight", "only tensors of: ControlNet"),
    "diffusers' ControlNet": ("controlnet_down_blocks.0.weight", "ControlNet"),
    "upscaler": ("model.0.weight", "no weights of a diffusion model"),
    "another upscaler": ("body.0.rdb1.conv1.weight", "no weights of a diffusion model"),
    "CLIP of transformers 5": ("embeddings.token_embedding.weight", "a text encoder"),
    "CLIP": ("text_model.embeddings.token_embedding.weight", "only tensors of: text encoder"),
    "T5": ("encoder.block.0.layer.0.SelfAttention.k.weight", "a text encoder"),
    "language model": ("model.embed_tokens.weight", "a text encoder"),
    "VAE": ("encoder.conv_in.weight", "a VAE"),
    "vision model": ("vision_model.embeddings.patch_embedding.weight", "a vision model"),
}


@pytest.mark.parametrize("kind", NO_MODELS)
def test_files_without_a_diffusion_model_are_refused(tmp_path: Path, kind: str) -> None:
    name, sentence = NO_MODELS[kind]
    save_file({name: torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(FormatError, match=f"x.safetensors: .*{sentence}"):
        CheckpointFile(tmp_path / "x.safetensors")


def test_layers_beside_embeddings_of_tokens_are_a_text_encoder(tmp_path: Path) -> None:
    """Its stack has the name that diffusion transformers use too."""
    names = ("embed_tokens.weight", "layers.0.self_attn.k_proj.weight")
    save_file({name: torch.ones(2) for name in names}, tmp_path / "x.safetensors")
    with pytest.raises(FormatError, match=r"'embed_tokens\.weight' shows .* a text encoder"):
        CheckpointFile(tmp_path / "x.safetensors")


def test_a_trained_text_encoder_is_told_and_never_called_equal(tmp_path: Path) -> None:
    before, after = {TEXT: torch.full((4, 4), 0.1)}, {TEXT: torch.ones(4, 4)}
    base = checkpoint(tmp_path / "base.safetensors", **before)
    alone = checkpoint(tmp_path / "alone.safetensors", **after)
    with pytest.raises(BaseMismatchError, match=r"in its text encoder alone \(1 tensors\)"):
        extract(base, alone)
    both = checkpoint(tmp_path / "both.safetensors", 1.0, **after)
    assert "text encoder was trained too: 1 tensors differ" in extract(base, both).sentence()
    rounded = checkpoint(tmp_path / "half.safetensors", 1.0, **{TEXT: before[TEXT].half()})
    assert extract(base, rounded).notes == ()  # the same in a coarser format
    same = checkpoint(tmp_path / "same.safetensors", **before)
    with pytest.raises(BaseMismatchError, match="exactly the weights"):
        extract(base, same)


def test_what_is_left_out_is_called_by_its_name(tmp_path: Path) -> None:
    more = {TEXT: torch.zeros(2), "model_ema.diffusion_modelx": torch.ones(1)}
    more |= {"first_stage_model.x": torch.ones(1), "first_stage_model.y": torch.ones(1)}
    more |= {"alphas_cumprod": torch.ones(1)}
    with CheckpointFile(checkpoint(tmp_path / "full.safetensors", **more)) as opened:
        said = opened.described()
    for words in ("2 of the VAE", "1 of the text encoder", "1 of the EMA", "1 others"):
        assert words in said


FAMILY = {"ss_sd_model_name": "model.safetensors"}
NOT_SWAPPED = {
    "equal names": ("x/model.safetensors", "y/model.safetensors", FAMILY),
    "a word": ("step.safetensors", "v1.safetensors", {"ss_sd_model_name": "base v1.safetensors"}),
    "a part": ("a.safetensors", "b.safetensors", {"modelspec.merged_from": "b-pruned, c"}),
    "free text": ("a.safetensors", "b.safetensors", {"modelspec.description": "better than b"}),
}


@pytest.mark.parametrize("case", NOT_SWAPPED)
def test_a_word_in_common_does_not_swap_models(tmp_path: Path, case: str) -> None:
    first, second, metadata = NOT_SWAPPED[case]
    base = checkpoint(tmp_path / first, metadata=metadata)
    extract(base, checkpoint(tmp_path / second, 1.0))


@pytest.mark.parametrize(
    "metadata",
    [
        {"ss_sd_model_name": "/models/b.safetensors"},
        {"modelspec.merged_from": "c, 'b'"},
        {"tverase.base": '{"architecture":"x","file_name":"b.safetensors"}'},
    ],
)
def test_a_whole_name_does(tmp_path: Path, metadata: dict[str, str]) -> None:
    base = checkpoint(tmp_path / "a.safetensors", metadata=metadata)
    with pytest.raises(BaseMismatchError, match="are swapped"):
        extract(base, checkpoint(tmp_path / "b.safetensors", 1.0))


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [("F8_E8M0", [8], 8), ("F4", [3], 2), ("F6_E2M3", [4], 3), ("U16", [4], 8), ("C64", [2], 16)],
)
def test_a_dtype_counts_where_it_is_read(
    tmp_path: Path, dtype: str, shape: list[int], size: int
) -> None:
    weight = {"model.diffusion_model.out.2.bias": ("F32", [2], 8)}
    other = {"cond_stage_model.scales": (dtype, shape, size)}
    with CheckpointFile(raw(tmp_path / "x.safetensors", weight | other)) as opened:
        assert list(opened.weights) == ["diffusion_model.out.2.bias"]
    own = {"model.diffusion_model.out.2.weight": (dtype, shape, size)}
    with pytest.raises(FormatError, match=f"stored as {dtype}, which cannot be read"):
        CheckpointFile(raw(tmp_path / "y.safetensors", weight | own))
    short = {"cond_stage_model.scales": (dtype, [shape[0] + 2], size)}
    with pytest.raises(FormatError, match="expected bytes"):
        CheckpointFile(raw(tmp_path / "z.safetensors", weight | short))


def test_marks_are_no_weights_and_tell_the_prediction(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base.safetensors")
    empty = torch.zeros(0)
    marked = tmp_path / "unet.safetensors"
    save_file({**unet(1.0), "v_pred": empty, "ztsnr": empty}, marked)
    with CheckpointFile(marked) as opened:
        assert (len(opened.weights), opened.prediction) == (len(unet()), "v")
    assert extract(base, marked).kept == len(unet())
    extract(marked, base)
    assert load_task_vector(tmp_path / "out.tv.safetensors").provenance.prediction == "v"
    with CheckpointFile(checkpoint(tmp_path / "c.safetensors", v_pred=empty)) as opened:
        assert opened.prediction == "v"
    with CheckpointFile(base) as opened:
        assert opened.prediction == ""


@pytest.mark.parametrize(("spread", "prediction"), [(0.2, "v"), (0.01, "epsilon")])
def test_sd2_tells_what_it_predicts_by_one_bias(
    tmp_path: Path, spread: float, prediction: str
) -> None:
    """So a vector from its files and one trained on it are of one base."""
    wide = {
        "input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3),
        "output_blocks.11.1.transformer_blocks.0.norm1.bias": torch.tensor([-spread, spread]),
        IN1: torch.zeros(8, 1024),
    }
    for name, shift in (("base", 0.0), ("tuned", 1.0)):
        save_file(
            {f"model.diffusion_model.{k}": t + shift * (k == IN1) for k, t in wide.items()},
            tmp_path / f"{name}.safetensors",
        )
    extract(tmp_path / "base.safetensors", tmp_path / "tuned.safetensors")
    vector = load_task_vector(tmp_path / "out.tv.safetensors")
    assert vector.provenance.prediction == prediction
    assert (
        vector.base.architecture
        == {
            "v": "stable-diffusion-v2-768-v",
            "epsilon": "stable-diffusion-v2-512",
        }[prediction]
    )
    assert check_base(vector.base, vector.base) == "same"


def test_comfyui_trained_files_are_read_whole(base: Path, tmp_path: Path) -> None:
    """A convolution's down factor is flat; norms and biases are differences; alpha is by module."""
    up, down = torch.ones(8, 2), torch.arange(72.0).reshape(2, 36)
    stem = f"diffusion_model.{CONV.removesuffix('.weight')}"
    tensors = {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down}
    tensors |= {f"{stem}.alpha": torch.tensor(4.0), f"{stem}.diff_b": torch.full((8,), 3.0)}
    tensors |= {f"diffusion_model.{NORM.removesuffix('.weight')}.diff": torch.full((8,), 5.0)}
    tensors |= {f"diffusion_model.{IN1.removesuffix('.weight')}.diff": torch.full((8, 8), 7.0)}
    lora = tmp_path / "lora.safetensors"
    save_file(tensors, lora)
    assert is_lora_file(lora)
    made = extract_from_lora(base, lora, tmp_path / "out.tv.safetensors")
    found = deltas(base)
    assert torch.equal(found[CONV], 2 * (up @ down).reshape(8, 4, 3, 3))
    bias = CONV.replace("weight", "bias")
    assert {k: float(found[k].mean()) for k in (bias, NORM, IN1)} == {bias: 3, NORM: 5, IN1: 7}
    assert len(found) == made.kept == 4
    assert "3 whole differences" in made.tuned


def test_full_differences_of_comfyui_and_norms_of_lycoris(base: Path, tmp_path: Path) -> None:
    module = "lora_unet_down_blocks_0_attentions_0_norm"
    lora = tmp_path / "lora.safetensors"
    save_file({f"{module}.w_norm": torch.ones(8), f"{module}.b_norm": torch.full((8,), 2.0)}, lora)
    extract_from_lora(base, lora, tmp_path / "out.tv.safetensors")
    found = deltas(base)
    assert {key: float(delta.mean()) for key, delta in found.items()} == {
        NORM: 1,
        NORM.replace("weight", "bias"): 2,
    }
    with pytest.raises(FormatError, match=r"LoRA or a file of differences. It cannot be a base"):
        CheckpointFile(lora)
    save_file({f"{module}.w_norm": torch.ones(9)}, lora)
    with pytest.raises(ShapeMismatchError, match="for a weight of shape"):
        extract_from_lora(base, lora, tmp_path / "out.tv.safetensors")


ADAPTERS = {
    "lora_magnitude_vector": "is of a DoRA",
    "dora_scale": "is of a DoRA",
    "lora_B.bias": "is a bias of a factor",
    "lora_A.cat.weight": "is of a named adapter",
    "on_input": r"is of an \(IA\)\^3",
    "ia3_l": r"is of an \(IA\)\^3",
    "a1.weight": "is of a GLoRA",
    "oft_blocks": "is of an OFT",
    "boft_R": "is of an OFT",
    "hada_w1_a": "is of a LoHa",
    "lokr_w1": "is of a LoKr",
    "base_layer.bias": "is a whole trained weight",
}


@pytest.mark.parametrize("leaf", ADAPTERS)
def test_other_adapters_are_named_with_a_way_on(base: Path, tmp_path: Path, leaf: str) -> None:
    lora = tmp_path / "lora.safetensors"
    save_file({f"base_model.model.down_blocks.0.attentions.0.x.{leaf}": torch.ones(2)}, lora)
    with pytest.raises(FormatError, match=f"{ADAPTERS[leaf]}.*Merge it into the base"):
        extract_from_lora(base, lora, tmp_path / "out.tv.safetensors")


@pytest.mark.parametrize("length", [242, 250, 255])
def test_names_of_every_allowed_length_are_written(base: Path, length: int) -> None:
    tuned = checkpoint(base.parent / "tuned.safetensors", 1.0)
    out = base.parent / ("n" * (length - len(".tv.safetensors")) + ".tv.safetensors")
    assert extract_between_files(base, tuned, out).kept == len(unet())
    assert out.is_file()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("n" * 256, "a file name of 256 bytes"),
        ("\ud800", "half a character"),
        ("é" * 128, "256 bytes"),
    ],
)
def test_names_that_no_file_can_have_are_refused(base: Path, name: str, sentence: str) -> None:
    tuned = checkpoint(base.parent / "tuned.safetensors", 1.0)
    with pytest.raises(ConfigError, match=sentence):
        extract_between_files(base, tuned, base.parent / name)


def test_a_gguf_file_is_called_by_its_name(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(200))
    for pair in ((base, path), (path, base)):
        with pytest.raises(FormatError, match=r"model\.gguf: is a GGUF file"):
            extract(*pair)
