"""ComfyUI's own: names of weights, files of its training and saving nodes, and what it makes of
a LoRA file. Imports ComfyUI, which the caller has brought onto the path."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import comfy.lora
import comfy.model_base
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.utils
import comfyui_version
import folder_paths
import torch
from comfy_extras.nodes_lora_extract import LoraSave
from comfy_extras.nodes_model_merging import ModelSave, ModelSubtract
from comfy_extras.nodes_train import SaveLoRA, TrainLoraNode
from safetensors.torch import load_file, save_file

from bench.format_parts.case import Case, note

TOOL = f"ComfyUI {comfyui_version.__version__}"
# Of the UNets in tiny_unet.py, as ComfyUI describes them.
CONFIGS: dict[str, dict[str, Any]] = {
    "sd15": {
        "channel_mult": [1, 2, 4, 4],
        "num_res_blocks": [2, 2, 2, 2],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1] * 9 + [0] * 3,
        "transformer_depth_middle": 1,
    },
    "sdxl": {
        "channel_mult": [1, 2, 4],
        "num_res_blocks": [2, 2, 2],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
    },
}
PREFIX = "diffusion_model."


class TinySD15(comfy.supported_models.SD15):
    unet_config: ClassVar[dict[str, Any]] = {**comfy.supported_models.SD15.unet_config}
    unet_extra_config: ClassVar[dict[str, Any]] = {"num_heads": 4, "num_head_channels": -1}


def keys(family: str) -> dict[str, str]:
    """ComfyUI's weight key by diffusers' name, as ComfyUI states it."""
    names = comfy.utils.unet_to_diffusers(CONFIGS[family])
    return {name: PREFIX + key for name, key in names.items()}


def save_single_files(work: Path) -> None:
    """Each base as a checkpoint under ComfyUI's names."""
    for family in CONFIGS:
        held = load_file(work / family / "diffusion_pytorch_model.safetensors")
        table = keys(family)
        tensors = {f"model.{table[name]}": tensor for name, tensor in held.items()}
        save_file(tensors, work / f"{family}.safetensors")


def model(work: Path) -> comfy.model_patcher.ModelPatcher:
    """The SD 1.5 base as a MODEL in float32, on the CPU."""
    unet = {
        **CONFIGS["sd15"],
        "image_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "context_dim": 48,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "use_temporal_attention": False,
        "adm_in_channels": None,
        "legacy": False,
    }
    TinySD15.unet_config = {**TinySD15.unet_config, "context_dim": 48, "model_channels": 32}
    config = TinySD15(unet)
    config.set_inference_dtype(torch.float32, None)
    inner = comfy.model_base.BaseModel(config, device="cpu")
    held = load_file(work / "sd15.safetensors")
    inner.diffusion_model.load_state_dict(
        {key.removeprefix("model.diffusion_model."): tensor for key, tensor in held.items()}
    )
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(inner, load_device=cpu, offload_device=cpu)


def loaded_deltas(base: comfy.model_patcher.ModelPatcher, file: Path) -> dict[str, torch.Tensor]:
    """What the stock Load LoRA node adds to each weight at strength 1."""
    tensors = comfy.utils.load_torch_file(str(file))
    tuned, _ = comfy.sd.load_lora_for_models(base, None, tensors, 1, 0)
    with torch.no_grad():  # onto zeros, where nothing is rounded
        return {
            key: comfy.lora.calculate_weight(
                patches, torch.zeros_like(comfy.utils.get_attr(base.model, key)), key
            )
            for key, patches in tuned.patches.items()
        }


def make(work: Path) -> None:
    for kind in ("output", "temp"):
        getattr(folder_paths, f"set_{kind}_directory")(str(work))
    base = model(work)
    tuned = base.clone()
    source = torch.Generator().manual_seed(21)
    deltas: dict[str, Any] = {
        key: (0.1 * torch.randn(weight.shape, generator=source),)
        for key, weight in base.model.state_dict().items()
        if key.startswith(PREFIX)
    }
    tuned.add_patches({key: ("diff", delta) for key, delta in deltas.items()}, 1.0)
    _saved_checkpoint(work, base, tuned)
    _lora_save(work, base, tuned)
    for algorithm in ("LoRA", "LoHa", "LoKr"):
        _trained(work, base, algorithm)


def _case(
    work: Path, name: str, file: str, deltas: Mapping[str, torch.Tensor], merged: str = ""
) -> None:
    expected = f"{Path(file).stem}.expected.safetensors"
    note(work, Case(name, TOOL, "sd15.safetensors", file, expected, "comfyui", merged), deltas)


def _merged(work: Path, base: Any, file: Path) -> str:
    """The stock Load LoRA and Save Model nodes."""
    tensors = comfy.utils.load_torch_file(str(file))
    with torch.inference_mode():
        tuned, _ = comfy.sd.load_lora_for_models(base, None, tensors, 1, 0)
        ModelSave().save(tuned, f"{file.stem}merged")
    return f"{file.stem}merged_00001_.safetensors"


def _saved_checkpoint(work: Path, base: Any, tuned: Any) -> None:
    """The stock Save Model node, of a model in float32."""
    with torch.inference_mode():
        ModelSave().save(tuned.clone(), "saved_model")
    file = "saved_model_00001_.safetensors"
    held = load_file(work / file)
    before = load_file(work / "sd15.safetensors")
    deltas = {
        key.removeprefix("model."): held[key].float() - before[key] for key in held if key in before
    }
    _case(work, "ComfyUI Save Model", file, deltas)


def _lora_save(work: Path, base: Any, tuned: Any) -> None:
    """The stock Extract and Save Lora node, with the differences of biases and norms."""
    with torch.inference_mode():
        (difference,) = ModelSubtract().merge(tuned.clone(), base.clone(), 1.0)
    for kind in ("standard", "full_diff"):
        place = f"lora_save_{kind}"
        with torch.inference_mode():
            LoraSave.execute(place, 4, kind, True, model_diff=difference)
        file = f"{place}_00001_.safetensors"
        _case(work, f"ComfyUI LoraSave, {kind}", file, loaded_deltas(base, work / file))


def _trained(work: Path, base: Any, algorithm: str) -> None:
    """The stock Train LoRA and Save LoRA nodes, two steps on noise."""
    place = f"train_{algorithm.lower()}"
    words = {
        "model": copy.copy(base.clone()),
        "latents": [{"samples": torch.ones(1, 4, 8, 8)}, {"samples": -torch.ones(1, 4, 8, 8)}],
        "positive": [[torch.zeros(1, 77, 48), {}]],
        "batch_size": 1,
        "grad_accumulation_steps": 1,
        "steps": 2,
        "learning_rate": 0.1,
        "rank": 4,
        "optimizer": "AdamW",
        "loss_function": "MSE",
        "seed": 1,
        "training_dtype": "fp32",
        "lora_dtype": "fp32",
        "algorithm": algorithm,
        "gradient_checkpointing": False,
        "existing_lora": "[None]",
    }
    with torch.inference_mode():
        output = TrainLoraNode.execute(
            **{n: value if n == "latents" else [value] for n, value in words.items()}
        )
        SaveLoRA.execute(output.args[1], place, 2)
    file = f"{place}_2_steps_00001_.safetensors"
    deltas = loaded_deltas(base, work / file)
    merged = _merged(work, base, work / file)
    _case(work, f"ComfyUI Train LoRA, {algorithm}", file, deltas, merged)
