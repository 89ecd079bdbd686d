"""LoRA files become task vectors: up @ down * alpha / rank, whatever the names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tverase_core.__main__ import main
from tverase_core.errors import (
    BaseMismatchError,
    ConfigError,
    FormatError,
    KeyMismatchError,
    NonFiniteError,
    ShapeMismatchError,
)
from tverase_core.files.diffusers_names import diffusers_names
from tverase_core.files.lora.extract import extract_from_lora, is_lora_file
from tverase_core.files.lora.product import lora_factors
from tverase_core.files.task_vector_file import load_task_vector, read_task_vector_header

BLOCK = "diffusion_model.input_blocks.1.1.transformer_blocks.0."
QUERY, OUT = f"{BLOCK}attn1.to_q.weight", f"{BLOCK}attn1.to_out.0.weight"
CONV = "diffusion_model.input_blocks.1.0.in_layers.2.weight"
PROJ = "diffusion_model.input_blocks.1.1.proj_in.weight"
SHAPES = {QUERY: (4, 4), OUT: (4, 4), CONV: (4, 4, 3, 3), PROJ: (4, 4, 1, 1)}
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1."


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + 7 * len(shape)))


FOLDERS = ("checkpoints", "loras")
UP, DOWN = values(4, 2, seed=1), values(2, 4, seed=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = {f"model.{key}": torch.ones(shape).half() for key, shape in SHAPES.items()}
    save_file(base, tmp_path / "base.safetensors")
    return tmp_path


def extracted(folder: Path, tensors: dict[str, Tensor], **options: Any) -> Any:
    save_file(
        {name: tensor.clone() for name, tensor in tensors.items()}, folder / "lora.safetensors"
    )
    files = (folder / name for name in ("base.safetensors", "lora.safetensors"))
    made = extract_from_lora(*files, folder / "v.tv.safetensors", **options)
    return load_task_vector(folder / "v.tv.safetensors"), made


@pytest.mark.parametrize(
    ("up", "down", "alpha"),
    [
        (f"lora_unet_{ATTENTION.replace('.', '_')}to_q.lora_up.weight", "", "alpha"),
        ("lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.lora_up.weight", "", "alpha"),
        (f"lycoris_{ATTENTION.replace('.', '_')}to_q.lora_up.weight", "", "alpha"),
        (f"{QUERY.removesuffix('.weight')}.lora_up.weight", "", "alpha"),
        (f"unet.{ATTENTION}to_q.lora_B.weight", f"unet.{ATTENTION}to_q.lora_A.weight", "alpha"),
        (f"unet.{ATTENTION}to_q.lora.up.weight", "", ""),
        (f"transformer.{BLOCK[16:]}attn1.to_q.lora_B.weight", "", "alpha"),
        (f"{ATTENTION}processor.to_q_lora.up.weight", "", ""),
        (f"base_model.model.{ATTENTION}to_q.lora_B.default.weight", "lora_A.default", ""),
    ],
)
def test_every_naming_gives_the_product(folder: Path, up: str, down: str, alpha: str) -> None:
    if not down or not down.endswith("weight"):
        down = up.replace("up.weight", "down.weight").replace("lora_B", "lora_A")
    tensors = {up: UP, down: DOWN}
    if alpha:
        module = up.partition(".lora_")[0]
        tensors[f"{module}.alpha"] = torch.tensor(3.0)
    vector, made = extracted(folder, tensors)
    assert list(vector.deltas) == [QUERY]
    expected = UP @ DOWN * (3.0 / 2 if alpha else 1)
    assert torch.allclose(vector.deltas[QUERY], expected, rtol=1e-6, atol=1e-7)
    assert (made.kept, made.unchanged) == (1, 3)
    assert "LoRA of 1 modules, ranks 2 to 2" in made.tuned


def test_convolutions_with_and_without_a_middle(folder: Path) -> None:
    up, down = values(4, 2, 1, 1, seed=3), values(2, 4, 3, 3, seed=4)
    small, middle = values(2, 4, 1, 1, seed=5), values(2, 2, 3, 3, seed=6)
    names = "lora_unet_down_blocks_0_resnets_0_conv1.lora_"
    flat = "lora_unet_down_blocks_0_attentions_0_proj_in.lora_"  # a linear one of a 1x1 convolution
    linear = {f"{flat}up.weight": UP, f"{flat}down.weight": DOWN}
    vector, _ = extracted(folder, {f"{names}up.weight": up, f"{names}down.weight": down, **linear})
    expected = torch.einsum("or,rikl->oikl", up[:, :, 0, 0], down)
    assert torch.allclose(vector.deltas[CONV], expected, atol=1e-6)
    assert torch.allclose(vector.deltas[PROJ], (UP @ DOWN)[:, :, None, None], atol=1e-6)
    parts = {"up": up, "down": small, "mid": middle, "alpha": torch.tensor([4.0])}
    expected = 2 * torch.einsum("or,rskl,si->oikl", up[:, :, 0, 0], middle, small[:, :, 0, 0])
    assert torch.allclose(lora_factors(parts, (4, 4, 3, 3)).product(), expected, atol=1e-5)


def test_text_encoders_are_left_out_and_counted(folder: Path) -> None:
    tensors = {f"{QUERY.removesuffix('.weight')}.lora_{s}.weight": t for s, t in FACTORS}
    text = {f"lora_te_text_model_x.lora_{s}.weight": t for s, t in FACTORS}
    text |= {f"text_encoder.text_model.x.lora_{s}.weight": t for s, t in (("A", UP), ("B", UP))}
    vector, made = extracted(folder, tensors | text)
    assert list(vector.deltas) == [QUERY]
    assert "4 tensors of text encoders left out" in made.tuned


FACTORS = (("up", UP), ("down", DOWN))


def test_bfloat16_states_its_error(folder: Path) -> None:
    tensors = {f"{QUERY.removesuffix('.weight')}.lora_{s}.weight": t for s, t in FACTORS}
    exact, _ = extracted(folder, tensors)
    assert _facts(folder)["error"] == 0
    rounded, _ = extracted(folder, tensors, dtype="bfloat16")
    error = (rounded.deltas[QUERY] - exact.deltas[QUERY]).norm() / exact.deltas[QUERY].norm()
    assert 0 < _facts(folder)["error"] == pytest.approx(float(error), rel=1e-4)
    assert _facts(folder)["kept"] == 1  # 2 * 8 numbers for 16
    assert exact.base.compare(rounded.base) == "same"


def _facts(folder: Path) -> dict[str, Any]:
    metadata = read_task_vector_header(folder / "v.tv.safetensors").metadata
    return dict(json.loads(metadata["tverase.compact"]))


MODULE = QUERY.removesuffix(".weight")
GOOD = {f"{MODULE}.lora_{side}.weight": tensor for side, tensor in FACTORS}
BAD: list[tuple[dict[str, Tensor], type[Exception], str]] = [
    (GOOD | {f"{MODULE}.dora_scale": UP}, FormatError, r"attn1\.to_q\.dora_scale' is of a DoRA"),
    ({f"{MODULE}.hada_w1_a": UP}, FormatError, r"is of a LoHa.*Merge it into the base"),
    ({f"{MODULE}.lokr_w1": UP}, FormatError, r"is of a LoKr.*Merge it into the base"),
    (GOOD | {f"{MODULE}.diff": UP}, FormatError, "factors and a whole difference of one weight"),
    (GOOD | {f"{MODULE}.diff_b": UP}, KeyMismatchError, r"has no .*attn1\.to_q\.bias"),
    ({f"{MODULE}.diff": UP}, ShapeMismatchError, "for a weight of shape"),
    (GOOD | {f"{MODULE}.set_weight": UP}, FormatError, "replaces a weight"),
    (GOOD | {f"{MODULE}.lora_B.bias": UP}, FormatError, "is a bias of a factor"),
    (GOOD | {f"{MODULE}.reshape_weight": UP}, FormatError, "is no part of a LoRA"),
    ({f"{MODULE}.lora_up.weight": UP}, FormatError, "up and down belong together"),
    (GOOD | {f"{MODULE}.alpha": torch.ones(2)}, FormatError, "alpha holds 2 numbers"),
    (GOOD | {f"{MODULE}.lora_B.weight": UP}, FormatError, "are the same tensor"),
    (
        GOOD | {f"unet.{ATTENTION}to_q.lora.{side}.weight": t for side, t in FACTORS},
        FormatError,
        "are both the weight",
    ),
    ({k.replace("to_q", "to_x"): t for k, t in GOOD.items()}, KeyMismatchError, "'.*to_x'"),
    (GOOD | {f"{MODULE}.lora_up.weight": values(5, 2)}, ShapeMismatchError, "another model"),
    (GOOD | {f"{MODULE}.lora_up.weight": values(4, 3)}, ShapeMismatchError, "another model"),
    (GOOD | {f"{MODULE}.lora_up.weight": UP * 0}, BaseMismatchError, "adds nothing"),
    (GOOD | {f"{MODULE}.lora_up.weight": UP / 0}, NonFiniteError, "product of .*to_q"),
    ({"lora_te_x.lora_up.weight": UP}, BaseMismatchError, "adds nothing"),
]


@pytest.mark.parametrize(("tensors", "kind", "sentence"), BAD, ids=[b[2] for b in BAD])
def test_what_cannot_be_read_is_refused_by_name(
    folder: Path, tensors: dict[str, Tensor], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        extracted(folder, tensors)
    assert is_lora_file(folder / "lora.safetensors")
    assert not (folder / "v.tv.safetensors").exists()


ODD_FACTORS: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = [
    ((4, 2, 3, 3), (2, 4, 1, 1), (4, 4, 1, 1)),
    ((4, 2, 3, 3), (2, 4, 3, 3), (4, 4, 3, 3)),
    ((4, 2), (2, 1), (4,)),
    ((4, 2), (2, 4), (4,)),
    ((4, 2), (2, 4), ()),
    ((4,), (2, 4), (4, 4)),
    ((4, 2), (), (4, 4)),
    ((), (), (4, 4)),
    ((4, 2, 0, 1), (2, 4), (4, 4)),
]


@pytest.mark.parametrize("mid", [None, (2, 2, 3, 3), (2, 2)])
@pytest.mark.parametrize(("up", "down", "shape"), ODD_FACTORS)
def test_factors_that_give_no_matrix_are_refused(
    up: tuple[int, ...], down: tuple[int, ...], shape: tuple[int, ...], mid: Any
) -> None:
    parts = {"up": torch.ones(up), "down": torch.ones(down)}
    parts |= {"mid": torch.ones(mid)} if mid else {}
    with pytest.raises(FormatError, match=r"^here: expected factors"):
        lora_factors(parts, shape, "here")


def test_a_middle_of_nothing_is_refused() -> None:
    parts = {"up": torch.ones(4, 2), "down": torch.ones(2, 0, 1), "mid": torch.ones(2, 2, 3, 3)}
    with pytest.raises(ShapeMismatchError):
        lora_factors(parts, (4, 4, 3, 3))


def test_the_command_takes_a_lora(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(GOOD, folder / "lora.safetensors")
    base, lora, out = (
        str(folder / f) for f in ("base.safetensors", "lora.safetensors", "v.tv.safetensors")
    )
    assert main(["extract", base, lora, "-o", out]) == 0
    assert "LoRA of 1 modules" in capsys.readouterr().out
    assert load_task_vector(out).provenance.concepts == ("v",)
    assert main(["extract", lora, base, "-o", out]) == 1
    assert "It cannot be a base" in capsys.readouterr().err
    again = str(folder / "again.tv.safetensors")
    assert main(["extract", base, out, "-o", again]) == 1
    assert "is a task vector already" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="would replace"):
        extract_from_lora(base, out, out)
    assert not is_lora_file(base)
    assert not is_lora_file(folder)


@pytest.mark.parametrize("naming", ["kohya", "diffusers"])
def test_it_is_what_the_host_adds(
    pack: Any, comfy_host: Any, make_tiny_model: Callable[..., Any], naming: str
) -> None:
    """Extract from Files of the LoRA is Extract Task Vector of the base with the LoRA loaded."""
    import comfy.sd

    from host_support import host_steps as steps

    base = make_tiny_model(seed=1, storage=torch.float32)
    held = steps.weights(base)
    folders = {k: Path(comfy_host.folder_paths.get_folder_paths(k)[0]) for k in FOLDERS}
    save_file({f"model.{k}": w for k, w in held.items()}, folders["checkpoints"] / "l.safetensors")
    lora: dict[str, Tensor] = {}
    for number, (name, key) in enumerate(diffusers_names(held).items()):
        if held[key].ndim not in (2, 4) or (
            "transformer_blocks" not in name and "conv1" not in name
        ):
            continue
        module, shape = name.removesuffix(".weight"), held[key].shape
        up = values(shape[0], 2, *[1] * (len(shape) - 2), seed=number)
        down = values(2, *shape[1:], seed=number + 1)
        if naming == "kohya":
            flat = "lora_unet_" + module.replace(".", "_")
            lora |= {f"{flat}.lora_up.weight": up, f"{flat}.lora_down.weight": down}
            lora[f"{flat}.alpha"] = torch.tensor(1.0)
        else:
            stem = "unet." + module.replace(".to_", ".processor.to_").removesuffix(".0")
            lora |= {f"{stem}_lora.up.weight": up, f"{stem}_lora.down.weight": down}
    if naming == "diffusers":  # the host knows feed-forward layers by their whole names only
        lora = {n: t for n, t in lora.items() if ".processor.to_" in n}
    save_file(lora, folders["loras"] / "l.safetensors")
    made, _, report = steps.node(
        pack,
        "ExtractFromFiles",
        base_file="checkpoints/l.safetensors",
        tuned_file="loras/l.safetensors",
        concept="",
        filename_prefix="from_lora/x",
        dtype="float32",
    )
    tuned, _ = comfy.sd.load_lora_for_models(base, None, lora, 1.0, 0.0)
    native = steps.node(pack, "ExtractTaskVector", base=base, tuned=tuned, concept="l")[0]
    assert set(made.deltas) == set(native.deltas)
    assert len(made.deltas) > 10
    for key, delta in native.deltas.items():
        assert torch.allclose(made.deltas[key], delta, atol=2e-6), key
    assert "LoRA of" in report


@pytest.mark.parametrize("kind", ["LoHa", "LoKr", "DoRA"])
def test_what_only_the_host_reads_goes_through_a_model(
    pack: Any, comfy_host: Any, make_tiny_model: Callable[..., Any], kind: str
) -> None:
    """The way that the refusal names: Load LoRA, then Extract Task Vector."""
    import comfy.sd

    from host_support import host_steps as steps

    base = make_tiny_model(seed=1, storage=torch.float32)
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    weight, stem = steps.weights(base)[key], key.removesuffix(".weight")
    a, b = values(32, 2, seed=1), values(2, 32, seed=2)
    c, d = values(32, 2, seed=3), values(2, 32, seed=4)
    if kind == "LoHa":
        lora = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d}
        expected = (a @ b) * (c @ d) * 3 / 2
    elif kind == "LoKr":
        left, right = values(4, 4, seed=5), values(8, 8, seed=6)
        lora, expected = {"lokr_w1": left, "lokr_w2": right}, torch.kron(left, right)
    else:
        lengths = weight.norm(dim=0, keepdim=True)
        lora = {"lora_up.weight": a, "lora_down.weight": b, "dora_scale": 2 * lengths}
        tuned = weight + a @ b * 3 / 2
        expected = 2 * lengths * tuned / tuned.norm(dim=0, keepdim=True) - weight
    lora["alpha"] = torch.tensor(3.0)
    named = {f"{stem}.{part}": tensor for part, tensor in lora.items()}
    tuned, _ = comfy.sd.load_lora_for_models(base, None, named, 1.0, 0.0)
    vector = steps.node(pack, "ExtractTaskVector", base=base, tuned=tuned, concept="x")[0]
    assert list(vector.deltas) == [key]
    assert torch.allclose(vector.deltas[key], expected, rtol=1e-4, atol=1e-5)
