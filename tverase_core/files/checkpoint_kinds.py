"""What kind of model file it is, by the names of its tensors, and ComfyUI's key of each weight."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ..errors import FormatError, listed
from ..model.layout import DIFFUSION_PREFIX
from ..model.layout_tables import DIT_BLOCK
from .diffusers_names import comfyui_keys, diffusers_names, is_diffusers_unet, is_whole_unet

CHECKPOINT_PREFIX = "model.diffusion_model."
# In files of the diffusion model alone, which ComfyUI loads too: Cosmos and Anima, AuraFlow.
_PREFIXES_ALONE = ("net.", "model.")
# Tensors of adapters: LoRA, DoRA, LoHa, LoKr, GLoRA, OFT, BOFT, (IA)^3, differences.
ADAPTER_NAME = re.compile(
    r"[._]lora[._](?:up|down|A|B|mid|linear_layer)(?:\.|$)|\.(?:hada|lokr)_w1|\.dora_scale$"
    r"|\.oft_(?:blocks|diag|R)\b|\.boft_|\.ia3_l$|\.on_input$|\.[ab][12]\.weight$"
    r"|\.(?:diff|diff_b|w_norm|b_norm|set_weight)$"
)
_ADAPTER = "It cannot be a base. Give it as the tuned model, beside the base it was made for."
_WHOLE_MODEL = "Give the checkpoint, or the file of its UNet or diffusion transformer."
_TEXT_ENCODER = (
    r"^(?:transformer\.)?text_model\.|(?:^|\.)(?:embed_tokens|token_embedding|token_embed)\."
    r"|^shared\.weight$|^(?:encoder|decoder)\.block\.|^text_projection\b|^final_layer_norm\."
)
# (pattern searched in a name, what the file is, what to do); the first that fits counts.
_NOT_MODELS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        ADAPTER_NAME,
        "a LoRA or a file of differences",
        _ADAPTER,
    ),
    (
        re.compile(
            r"^(?:single_transformer_blocks\.|transformer_blocks\.\d+\.norm1_context\."
            r"|(?:layers|noise_refiner|context_refiner)\.\d+\.attention\.to_[qkv]\."
            r"|blocks\.\d+\.attn[12]\.to_[qkv]\.)"
        ),
        "a diffusion transformer under diffusers' names",
        "Use the single-file checkpoint of this model instead.",
    ),
    (
        re.compile(
            r"^(?:control_model|controlnet_\w+|adapter\.body)\.|^(?:zero_convs|input_hint_block)\."
        ),
        "a ControlNet or an adapter of one",
        _WHOLE_MODEL,
    ),
    (
        re.compile(r"^(?:encoder|decoder)\.(?:conv_in|down|mid|up|middle)\b|^(?:post_)?quant_conv"),
        "a VAE",
        _WHOLE_MODEL,
    ),
    (re.compile(_TEXT_ENCODER), "a text encoder", _WHOLE_MODEL),
    (re.compile(r"^(?:vision_model|visual)\.|^cls_token$"), "a vision model", _WHOLE_MODEL),
)
# Weights stored as codes or with a scale beside them: their plain numbers mean nothing.
_QUANTISED = re.compile(
    r"(?:^|\.)(?:scaled_fp8|scale_weight|weight_scale(?:_2)?|comfy_quant|absmax|quant_map"
    r"|quant_state\..*)$"
)
TEXT = "text encoder"
# (how the name of a tensor begins, what it belongs to)
_OTHER_PARTS = (
    (("model_ema.",), "EMA"),
    (("cond_stage_model.", "conditioner.", "text_encoders.", "text_model."), TEXT),
    (("first_stage_model.", "vae."), "VAE"),
    (("control_model.",), "ControlNet"),
)
_UNET_START = re.compile(r"^(?:input_blocks\.\d+|middle_block\.\d+|output_blocks\.\d+|out\.\d+)\.")


@dataclass(frozen=True, slots=True)
class RecognisedNames:
    """kind: for people. keys: ComfyUI's weight key by the tensor's name, diffusion model only.
    left_out: what the other tensors belong to, by their names."""

    kind: str
    keys: Mapping[str, str]
    left_out: Mapping[str, str]

    def left_out_words(self) -> str:
        """ "196 tensors of the text encoder, 4 others"; empty without any."""
        counts = Counter(self.left_out.values())
        parts = [f"{n} of the {part}" for part, n in counts.most_common() if part]
        parts += [f"{counts['']} others"] * bool(counts[""])
        return ", ".join(parts)


def recognise(
    names: Iterable[str], file: str, base_keys: Collection[str] | None = None
) -> RecognisedNames:
    """The kind of a model file. `file` is for messages. base_keys: of the base's weights, where
    the file may hold a part of a model under diffusers' names.

    Raises FormatError for LoRA, whatever has no diffusion model, quantised models, and for two
    names of one weight.
    """
    every = list(names)
    prefix = _prefix_of(every)
    own = [name for name in every if name.startswith(prefix) and not _other_part(name)]
    quantised = [name for name in own if _QUANTISED.search(name)]
    if quantised:
        raise FormatError(
            f"{file}: {listed(quantised)}: its weights are quantised, so they cannot be "
            "subtracted. Use the checkpoint in fp16, bf16, fp32 or plain fp8."
        )
    if not own:
        parts = ", ".join(sorted({_other_part(name) for name in every}))
        held = f"only tensors of: {parts}" if every else "no tensors"
        raise FormatError(f"{file}: holds no diffusion model, {held}. {_WHOLE_MODEL}")
    _refuse_other_files(own, file, base_keys is not None)
    if prefix:
        kind = "ComfyUI or CompVis checkpoint"
        if prefix == DIFFUSION_PREFIX or len(own) == len(every):
            kind = "diffusion model under checkpoint names"
        if prefix in _PREFIXES_ALONE:
            kind = "diffusion model alone"
        keys = {name: DIFFUSION_PREFIX + name.removeprefix(prefix) for name in own}
    else:
        kind, keys = _without_prefix(own, file, base_keys)
    _refuse_two_names(keys, file)
    left_out = {name: _other_part(name) for name in every if name not in keys}
    return RecognisedNames(kind, keys, left_out)


def _prefix_of(names: Collection[str]) -> str:
    """What precedes the network's own names; empty without."""
    for prefix in (CHECKPOINT_PREFIX, DIFFUSION_PREFIX):
        if any(name.startswith(prefix) for name in names):
            return prefix
    found = ((p, n.removeprefix(p)) for p in _PREFIXES_ALONE for n in names if n.startswith(p))
    return next((prefix for prefix, own in found if _is_diffusion(own)), "")


def _other_part(name: str) -> str:
    """What a tensor belongs to that is none of the diffusion model's; empty where unknown."""
    return next((part for starts, part in _OTHER_PARTS if name.startswith(starts)), "")


def _refuse_other_files(names: list[str], file: str, beside_base: bool) -> None:
    for pattern, what, advice in _NOT_MODELS:
        found = next((name for name in names if pattern.search(name)), None)
        if found is not None:
            if beside_base and advice is _ADAPTER:
                advice = "It is no whole model: read it by extract_from_lora."
            raise FormatError(f"{file}: {found!r} shows that it is {what}. {advice}")


def _without_prefix(
    names: list[str], file: str, base_keys: Collection[str] | None
) -> tuple[str, dict[str, str]]:
    if is_diffusers_unet(names):
        if is_whole_unet(names):
            return "diffusers UNet", comfyui_keys(names, file)
        return "part of a diffusers UNet", _keys_by_base(names, file, base_keys)
    if not any(map(_is_diffusion, names)):
        raise FormatError(
            f"{file}: holds no weights of a diffusion model that is known here "
            f"({listed(names)}). {_WHOLE_MODEL}"
        )
    return "diffusion model alone", {name: DIFFUSION_PREFIX + name for name in names}


def _is_diffusion(name: str) -> bool:
    return bool(_UNET_START.match(name) or DIT_BLOCK.fullmatch(DIFFUSION_PREFIX + name))


def _keys_by_base(names: list[str], file: str, base_keys: Collection[str] | None) -> dict[str, str]:
    """Where layers are missing they cannot be counted, so the base says which place is which."""
    if base_keys is None:
        raise FormatError(
            f"{file}: holds a part of a UNet only ({len(names)} weights, as UCE and ESD save what "
            "they edited). Give the whole model as base, and this file as the tuned one."
        )
    table = diffusers_names(base_keys)
    foreign = [name for name in names if name not in table]
    if foreign:
        raise FormatError(
            f"{file}: the base has no weight for {listed(foreign)}. Give the base that this file "
            "was made from."
        )
    return {name: table[name] for name in names}


def _refuse_two_names(keys: Mapping[str, str], file: str) -> None:
    first: dict[str, str] = {}
    for name, key in keys.items():
        if key in first:
            raise FormatError(
                f"{file}: {first[key]!r} and {name!r} are both the weight {key}. "
                "Convert the model to safetensors again."
            )
        first[key] = name
