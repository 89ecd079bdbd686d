"""Which tensor of a LoRA file is what, by its name.

Names of kohya's trainers, of diffusers and PEFT, of ComfyUI and of LyCORIS. What a file holds
beside its factors is taken along where it is a plain difference, and refused by name where it
means another change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ...errors import FormatError, KeyMismatchError
from ...model.layout import DIFFUSION_PREFIX
from ...vector.delta_names import BIAS, WEIGHT, is_bare
from ..diffusers_names import diffusers_names

_PARTS = re.compile(
    r"(?P<module>.+?)(?:"
    r"(?:[._]lora\.|\.lora_linear_layer\.|\.lora_)(?P<side>up|down|mid)\.weight"
    r"|\.lora_(?P<letter>[AB])(?:\.default)?(?:\.weight)?"
    r"|\.(?P<whole>diff|diff_b|w_norm|b_norm)"
    r"|\.(?P<alpha>alpha))"
)
_SIDES = {"A": "down", "B": "up"}
_WHOLE = {"diff": "diff", "w_norm": "diff", "diff_b": "diff_b", "b_norm": "diff_b"}
_TEXT = re.compile(r"(?:base_model\.model\.)?(?:lora_te|text_encoder|text_model|te\d?_)")
MERGE = (
    "Merge it into the base with the tool that made it, save the merged model, and give that as "
    "the tuned one."
)
_OTHER_KINDS = (
    (r"\.(?:dora_scale|lora_magnitude_vector(?:\.weight)?)$", "is of a DoRA"),
    (r"\.hada_", "is of a LoHa"),
    (r"\.lokr_", "is of a LoKr"),
    (r"\.[ab][12]\.weight$", "is of a GLoRA"),
    (r"\.oft_|\.boft_", "is of an OFT"),
    (r"\.(?:ia3_l|on_input)$", "is of an (IA)^3"),
    (r"\.lora_B\.bias$", "is a bias of a factor (lora_bias)"),
    (r"\.lora_[AB]\.\w+\.weight$", "is of a named adapter"),
    (r"\.set_weight$", "replaces a weight"),
    (r"\.(?:bias|weight)$", "is a whole trained weight, no difference"),
)


def parts_by_module(names: Iterable[str], file: str) -> tuple[dict[str, dict[str, str]], int]:
    """Tensor name by module and part; how many tensors of text encoders there are.

    Parts: up, down, mid, alpha, diff (a weight's difference), diff_b (a bias's). Raises FormatError
    for a name of another kind.
    """
    modules: dict[str, dict[str, str]] = {}
    text = 0
    for name in names:
        if _TEXT.match(name):
            text += 1
            continue
        match = _PARTS.fullmatch(name)
        if match is None:
            raise FormatError(f"{file}: {name!r} {_why(name)}, which is not read here. {MERGE}")
        part = match["side"] or _SIDES.get(match["letter"] or "")
        part = part or _WHOLE.get(match["whole"] or "", "alpha")
        held = modules.setdefault(match["module"], {})
        if part in held:
            raise FormatError(f"{file}: {held[part]!r} and {name!r} are the same tensor")
        held[part] = name
    return modules, text


def _why(name: str) -> str:
    return next((w for p, w in _OTHER_KINDS if re.search(p, name)), "is no part of a LoRA")


def keys_of_modules(
    modules: Iterable[str], weights: Iterable[str], file: str, base: str
) -> dict[str, str]:
    """Weight key by module. weights: the base's keys. Raises KeyMismatchError for a module that
    the base has not, FormatError for two modules of one weight."""
    places = _places(weights)
    keys: dict[str, str] = {}
    holders: dict[str, str] = {}
    for module in modules:
        name = plain_module(module)
        if name not in places:  # diffusers' word for a diffusion transformer
            name = name.removeprefix("transformer.")
        if name not in places:
            raise KeyMismatchError(
                f"{file}: {base} has no weight for the module {module!r}. Give the base that the "
                f"LoRA was made for. If this is it: {MERGE[0].lower()}{MERGE[1:]}",
                unexpected=[module],
            )
        key = keys[module] = places[name]
        if key in holders:
            raise FormatError(f"{file}: {holders[key]!r} and {module!r} are both the weight {key}")
        holders[key] = module
    return keys


def bias_of(key: str) -> str:
    """The bias beside a weight."""
    return key.removesuffix(WEIGHT) + BIAS


def plain_module(module: str) -> str:
    """Without what a tool puts before or into a module's name."""
    plain = module.removeprefix("base_model.model.").removeprefix("unet.")
    plain = plain.removeprefix(DIFFUSION_PREFIX).replace(".processor.", ".")
    return re.sub(r"^lycoris_", "lora_unet_", plain)


def _places(keys: Iterable[str]) -> Mapping[str, str]:
    """Weight key by every name that a LoRA may have for the module."""
    held = [key for key in keys if key.startswith(DIFFUSION_PREFIX)]
    own = [key for key in held if key.endswith(WEIGHT) or is_bare(key)]
    dotted = {key.removeprefix(DIFFUSION_PREFIX): key for key in own}
    places = {}
    for name, key in (*dotted.items(), *diffusers_names(own).items()):
        module = name.removesuffix(WEIGHT)
        places[module] = places["lora_unet_" + module.replace(".", "_")] = key
        places[module.removesuffix(".0") if module.endswith("to_out.0") else module] = key
    return places
