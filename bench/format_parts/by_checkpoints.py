"""Whole models: diffusers' folders in each precision and in shards, quantised files, GGUF."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import diffusers
import gguf
import torch
from diffusers import UNet2DConditionModel

from bench.format_parts.case import Case, difference, note
from bench.format_parts.tiny_unet import unet, weights

TOOL = f"diffusers {diffusers.__version__}"


def tuned(family: str) -> UNet2DConditionModel:
    """Every weight moved, as a full fine-tune does."""
    model = unet(family)
    source = torch.Generator().manual_seed(9)
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn(parameter.shape, generator=source)
    return model


def make(work: Path) -> None:
    for family in ("sd15", "sdxl"):
        _folder(work, f"full_{family}", f"diffusers UNet folder, {family}", family)
    _folder(work, "full_sharded", "diffusers UNet folder in shards", "sd15", max_shard_size="20MB")
    for dtype in (torch.float16, torch.bfloat16):
        kind = str(dtype).removeprefix("torch.")
        _folder(work, f"full_{kind}", f"diffusers UNet folder, {kind}", "sd15", dtype)
    _folder(work, "full_variant", "diffusers UNet folder, variant fp16", "sd15", variant="fp16")
    _cast(work)
    _quantised(work)
    _gguf(work)


def _note(
    work: Path, place: str, name: str, tool: str, family: str, path: str, after: dict
) -> None:
    case = Case(
        name=name,
        tool=tool,
        base=family,
        tuned=path,
        expected=f"{place}.expected.safetensors",
        merged="full_sd15",
    )
    note(work, case, difference(after, weights(unet(family))))


def _folder(
    work: Path,
    place: str,
    name: str,
    family: str,
    dtype: torch.dtype = torch.float32,
    **words: str,
) -> None:
    model = tuned(family).to(dtype)
    model.save_pretrained(work / place, **words)
    _note(work, place, name, TOOL, family, place, weights(model))


def _cast(work: Path) -> None:
    """Plain fp8: layers that are stored in eight bits and cast when they are used."""
    model = tuned("sd15")
    model.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    model.save_pretrained(work / "full_fp8")
    _note(
        work,
        "full_fp8",
        "diffusers UNet folder, plain fp8",
        TOOL,
        "sd15",
        "full_fp8",
        weights(model),
    )


def _quantised(work: Path) -> None:
    """fp8 with a scale beside each weight and ComfyUI's description of it."""
    file = "fp8_scaled.safetensors"
    source = work / "full_sd15" / "diffusion_pytorch_model.safetensors"
    tool = Path(sys.executable).with_name("ctq")
    words = [tool, "-i", source, "-o", work / file, "--simple", "--comfy_quant"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    named = f"convert-to-quant {version('convert-to-quant')}"
    _note(work, "fp8_scaled", "fp8 with scales", named, "sd15", file, weights(tuned("sd15")))


def _gguf(work: Path) -> None:
    writer = gguf.GGUFWriter(str(work / "model.gguf"), "sd1")
    after = weights(tuned("sd15"))
    for name, tensor in after.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tool = f"gguf {version('gguf')}"
    _note(work, "gguf", "GGUF file", tool, "sd15", "model.gguf", after)
