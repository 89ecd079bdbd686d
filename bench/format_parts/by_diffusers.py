"""Files of diffusers: save_lora_weights with and without a header, and its conversion to kohya's
names; merged by fuse_lora from the file, as its users load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_kohya
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from bench.format_parts.case import Case, difference, note
from bench.format_parts.tiny_unet import randomise, unet, weights

TOOL = f"diffusers {diffusers.__version__}"
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
PIPELINES = {"sd15": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
FILE = "pytorch_lora_weights.safetensors"


def make(work: Path) -> None:
    plain = {"r": 4, "lora_alpha": 16, "target_modules": ATTENTION}
    _case(work, "diffusers0", "LoRA with a header (lora_adapter_metadata)", "sd15", plain, True)
    patterns = {**plain, "rank_pattern": {"attn2.to_k": 2}, "alpha_pattern": {"attn2.to_k": 3}}
    _case(work, "diffusers1", "LoRA with a header, patterns", "sd15", patterns, True)
    stable = {**plain, "use_rslora": True}
    _case(work, "diffusers2", "LoRA with a header, rank-stabilised", "sd15", stable, True)
    _case(work, "diffusers3", "LoRA that states no alpha", "sd15", plain, False)
    _case(work, "diffusers4", "LoRA with a header, SDXL", "sdxl", plain, True)
    _bare(work, plain)
    _kohya(work, {**plain, "lora_alpha": 4})
    _dora(work, plain)


def _trained(family: str, words: dict[str, Any]) -> Any:
    model = unet(family)
    model.add_adapter(LoraConfig(**words))
    randomise([p for p in model.parameters() if p.requires_grad])
    return model


def _merged(work: Path, place: str, family: str, file: Path) -> dict[str, torch.Tensor]:
    """Weights of a fresh UNet with the file fused in, saved as diffusers saves models."""
    model = unet(family)
    state, alphas, metadata = _lora_state_dict(family, file, model)
    PIPELINES[family].load_lora_into_unet(state, alphas, model, metadata=metadata)
    model.fuse_lora()
    model.unload_lora()
    model.save_pretrained(work / f"{place}_merged")
    return weights(model)


def _lora_state_dict(family: str, file: Path, model: Any) -> tuple[Any, Any, Any]:
    return PIPELINES[family].lora_state_dict(
        file.parent, weight_name=file.name, unet_config=model.config, return_lora_metadata=True
    )


def _note(work: Path, place: str, name: str, family: str, file: Path) -> None:
    merged = _merged(work, place, family, file)
    case = Case(
        name=f"diffusers {name}",
        tool=TOOL,
        base=f"{family}.safetensors",
        tuned=file.relative_to(work).as_posix(),
        expected=f"{place}.expected.safetensors",
        merged=f"{place}_merged",
    )
    note(work, case, difference(merged, weights(unet(family))))


def _case(
    work: Path, place: str, name: str, family: str, words: dict[str, Any], header: bool
) -> None:
    model = _trained(family, words)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
    metadata = _collate_lora_metadata({"unet": model}) if header else {}
    PIPELINES[family].save_lora_weights(work / place, unet_lora_layers=layers, **metadata)
    _note(work, place, name, family, work / place / FILE)


def _bare(work: Path, words: dict[str, Any]) -> None:
    """The UNet's own method writes names and header without `unet.`."""
    place = "diffusers5"
    model = _trained("sd15", words)
    model.save_lora_adapter(work / place, weight_name=FILE)
    fresh = unet("sd15")
    fresh.load_lora_adapter(work / place, prefix=None, weight_name=FILE)
    fresh.fuse_lora()
    fresh.unload_lora()
    fresh.save_pretrained(work / f"{place}_merged")
    case = Case(
        name="diffusers save_lora_adapter of a UNet",
        tool=TOOL,
        base="sd15.safetensors",
        tuned=f"{place}/{FILE}",
        expected=f"{place}.expected.safetensors",
        merged=f"{place}_merged",
    )
    note(work, case, difference(weights(fresh), weights(unet("sd15"))))


def _kohya(work: Path, words: dict[str, Any]) -> None:
    """What its training scripts write with --output_kohya_format."""
    place = "diffusers6"
    layers = get_peft_model_state_dict(_trained("sd15", words))
    state = convert_state_dict_to_kohya({f"unet.{name}": t for name, t in layers.items()})
    (work / place).mkdir()
    file = work / place / "kohya.safetensors"
    save_file({name: t.contiguous() for name, t in state.items()}, file)
    _note(work, place, "conversion to kohya's names", "sd15", file)


def _dora(work: Path, words: dict[str, Any]) -> None:
    _case(work, "diffusers7", "DoRA with a header", "sd15", {**words, "use_dora": True}, True)
