"""What kind of model file it is, by the names of its tensors, and ComfyUI's key of each weight."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import FormatError, listed
from ..model.layout import DIFFUSION_PREFIX
from .diffusers_names import comfyui_keys, is_diffusers_unet

CHECKPOINT_PREFIX = "model.diffusion_model."
LORA_NAME = re.compile(
    r"[._]lora[._](?:up|down|A|B|mid|linear_layer)(?:\.|$)|\.(?:hada|lokr)_w1|\.dora_scale$"
    r"|\.oft_(?:blocks|diag)$"
)
# (pattern searched in a name, what the file is, what to do); the first that fits counts.
_NOT_MODELS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        LORA_NAME,
        "a LoRA",
        "It cannot be a base. Give it as the tuned model, beside the base it was made for.",
    ),
    (
        re.compile(r"\.diff(?:_b)?$"),
        "a file of differences, such as a task vector",
        "Load it with Load Task Vector.",
    ),
    (
        re.compile(r"^(?:single_transformer_blocks\.|transformer_blocks\.\d+\.norm1_context\.)"),
        "a diffusion transformer under diffusers' names",
        "Use the single-file checkpoint of this model instead.",
    ),
    (
        re.compile(r"^(?:transformer\.)?text_model\.|^(?:encoder|decoder)\.(?:conv_in|block)\b"),
        "a text encoder or a VAE",
        "Give the checkpoint, or the file of its UNet or diffusion transformer.",
    ),
)
# Weights stored as codes or with a scale beside them: their plain numbers mean nothing.
_QUANTISED = re.compile(
    r"(?:^|\.)(?:scaled_fp8|scale_weight|weight_scale|comfy_quant|absmax|quant_map|quant_state\..*)$"
)


@dataclass(frozen=True, slots=True)
class RecognisedNames:
    """kind: for people. keys: ComfyUI's weight key by the tensor's name, diffusion model only.
    left_out: how many tensors are no weights of the diffusion model."""

    kind: str
    keys: Mapping[str, str]
    left_out: int


def recognise(names: Iterable[str], file: str) -> RecognisedNames:
    """The kind of a model file. `file` is for messages.

    Raises FormatError for LoRA, text encoders, VAE, quantised models, and for two names of one
    weight.
    """
    every = list(names)
    prefix = next(
        (p for p in (CHECKPOINT_PREFIX, DIFFUSION_PREFIX) if any(n.startswith(p) for n in every)),
        "",
    )
    own = [name for name in every if name.startswith(prefix)]
    quantised = [name for name in own if _QUANTISED.search(name)]
    if quantised:
        raise FormatError(
            f"{file}: {listed(quantised)}: its weights are quantised, so they cannot be "
            "subtracted. Use the checkpoint in fp16, bf16, fp32 or plain fp8."
        )
    _refuse_other_files(own, file)
    if prefix:
        kind = "ComfyUI or CompVis checkpoint"
        if prefix == DIFFUSION_PREFIX or len(own) == len(every):
            kind = "diffusion model under checkpoint names"
        keys = {name: DIFFUSION_PREFIX + name.removeprefix(prefix) for name in own}
    else:
        kind, keys = _without_prefix(own, file)
    _refuse_two_names(keys, file)
    return RecognisedNames(kind, keys, len(every) - len(own))


def _refuse_other_files(names: list[str], file: str) -> None:
    for pattern, what, advice in _NOT_MODELS:
        found = next((name for name in names if pattern.search(name)), None)
        if found is not None:
            raise FormatError(f"{file}: {found!r} shows that it is {what}. {advice}")


def _without_prefix(names: list[str], file: str) -> tuple[str, dict[str, str]]:
    if is_diffusers_unet(names):
        return "diffusers UNet", comfyui_keys(names, file)
    if not any(name.endswith(".weight") for name in names):
        raise FormatError(
            f"{file}: holds no weights of a diffusion model ({listed(names) or 'no tensors'}). "
            "Give a checkpoint, a UNet or a diffusers folder."
        )
    return "diffusion model alone", {name: DIFFUSION_PREFIX + name for name in names}


def _refuse_two_names(keys: Mapping[str, str], file: str) -> None:
    first: dict[str, str] = {}
    for name, key in keys.items():
        if key in first:
            raise FormatError(
                f"{file}: {first[key]!r} and {name!r} are both the weight {key}. "
                "Convert the model to safetensors again."
            )
        first[key] = name
