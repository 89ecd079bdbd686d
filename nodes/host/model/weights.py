"""Reading a MODEL's weights: shapes, true base values, what is patched, what can be trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import comfy.model_base
import torch

from ....tverase_core.errors import BaseMismatchError
from ....tverase_core.model.fingerprint import (
    BaseFingerprint,
    architecture_of,
    key_digest,
    sample_sha256,
    sample_values,
    sampled,
    storage_of,
)
from ....tverase_core.model.layout import ModelLayout, detect_layout
from .computed import computed

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

PREFIX = "diffusion_model."
_sampled: WeakKeyDictionary[torch.nn.Module, tuple[str, str, str]] = WeakKeyDictionary()


def model_shapes(model: ModelPatcher) -> dict[str, torch.Size]:
    """Shape of every floating-point weight of the diffusion model, by its ComfyUI key."""
    return {
        key: value.shape
        for key, value in model.model_state_dict(PREFIX).items()
        if value.is_floating_point()
    }


def wrappable_shapes(model: ModelPatcher) -> dict[str, torch.Size]:
    """The weights that the host lets a function see at each forward pass: those of its own
    layers. Free-standing parameters, which some newer families have, are not among them."""
    layers = dict(model.model.named_modules())
    return {
        key: shape
        for key, shape in model_shapes(model).items()
        if key.endswith((".weight", ".bias"))
        and hasattr(layers[key.rpartition(".")[0]], "weight_function")
    }


def patched_keys(model: ModelPatcher) -> list[str]:
    """Diffusion-model weights that carry patches (a LoRA, a merge, an erasure)."""
    return sorted(key for key in model.patches if _name(key).startswith(PREFIX))


def _name(key: str | tuple) -> str:
    return key if isinstance(key, str) else key[0]


def refuse_quantised(model: ModelPatcher, purpose: str) -> None:
    """Raise when weights are stored in a form that has no plain float values to work on."""
    for name, parameter in model.model.named_parameters():
        kind = type(parameter.data).__name__
        if hasattr(parameter, "tensor_type") or kind in ("GGMLTensor", "QuantizedTensor"):
            raise BaseMismatchError(
                f"{purpose} needs plain floating-point weights, but {name} is stored as {kind} "
                "(GGUF or another quantised format). Load the full checkpoint with "
                "Load Checkpoint instead."
            )


def base_weight(entry: list) -> torch.Tensor:
    """The unpatched weight of one `get_key_patches` entry, as stored (scaled formats undone)."""
    weight, convert = entry[0]
    if weight.is_meta:  # the checkpoint lacked it: ComfyUI's dynamic memory computes with zeros
        weight = torch.zeros(weight.shape, dtype=weight.dtype)
    return convert(weight)


def effective_weights(model: ModelPatcher) -> Iterator[tuple[str, torch.Tensor]]:
    """(key, float32 weight with the model's own patches applied) for each float weight."""
    for key, entry in model.get_key_patches(PREFIX).items():
        weight = base_weight(entry)
        if not weight.is_floating_point():
            continue
        weight = weight.detach().to("cpu", torch.float32, copy=True)
        if len(entry) > 1:
            weight = computed(entry[1:], weight, key)
        yield key, weight


def refuse_failing_patches(model: ModelPatcher) -> None:
    """Raise BaseMismatchError when the host would leave a patch out of the weights it computes."""
    for key, entry in model.get_key_patches(PREFIX).items():
        if len(entry) > 1:
            weight = base_weight(entry).detach().to("cpu", torch.float32, copy=True)
            computed(entry[1:], weight, key)


def base_reader(model: ModelPatcher) -> Callable[[str], torch.Tensor]:
    """key -> unpatched weight as stored."""
    entries = model.get_key_patches(PREFIX)
    return lambda key: base_weight(entries[key]).detach()


def _sample_of(model: ModelPatcher) -> tuple[str, str, str]:
    """`sample_sha256` of the base weights, what they are stored in, and `sample_values`; once per
    loaded model.

    Merges are part of the base, LoRAs and erasures after them are edits of it.
    """
    module = model.model
    merged = any(_merges(patch) for patches in model.patches.values() for patch in patches)
    if merged or module not in _sampled:
        entries = model.get_key_patches(PREFIX)
        weights = {key: base_weight(entry).detach() for key, entry in entries.items()}
        # Not the dtype that the host names: with dynamic memory management weights stay as the
        # file has them until they are used, and the name is of what they become then.
        storage = storage_of((weight.dtype, weight.numel()) for weight in weights.values())
        if merged:
            samples = {key: _merged_sample(key, entry) for key, entry in entries.items()}
            return sample_sha256(samples), storage, sample_values(samples)
        samples = {key: sampled(weight) for key, weight in weights.items()}
        _sampled[module] = (sample_sha256(samples), storage, sample_values(samples))
    return _sampled[module]


def _merges(patch: tuple) -> bool:
    """Whether a patch brings another model's weights or takes from the model's own, as the stock
    merge nodes' do, where a LoRA's or an erasure's adds something."""
    strength, value, own_share = patch[:3]
    replaces = isinstance(value, list) or (isinstance(value, tuple) and value[0] == "set")
    return own_share != 1 or (strength != 0 and replaces)


def _merged_sample(key: str, entry: list) -> torch.Tensor:
    """`sampled` of the weight with its merges in it, in the stored dtype."""
    weight, patches = base_weight(entry).detach(), entry[1:]
    last = max((i + 1 for i, patch in enumerate(patches) if _merges(patch)), default=0)
    if last:
        own = weight.to("cpu", torch.float32, copy=True)
        weight = computed(patches[:last], own, key).to(weight.dtype)
    return sampled(weight)


def layout_of(model: ModelPatcher) -> ModelLayout:
    """The block names of this model."""
    return detect_layout(model_shapes(model))


def prediction_of(model: ModelPatcher) -> str:
    """What the loaded checkpoint predicts: "epsilon", "v", or "" for anything else.

    A ModelSampling node on the MODEL changes nothing here: the weights are the same.
    """
    kinds = comfy.model_base.ModelType
    return {kinds.EPS: "epsilon", kinds.V_PREDICTION: "v"}.get(model.model.model_type, "")


def fingerprint(model: ModelPatcher, prediction: str = "") -> BaseFingerprint:
    """Who this base is: family, digest of its weights' names and shapes, hash of their sample.

    prediction: what the family's name shall say instead of what the model itself predicts. Some
    vectors of v models name the epsilon family, since older versions of the pack took their word.
    """
    shapes = model_shapes(model)
    sample, storage, values = _sample_of(model)
    return BaseFingerprint(
        architecture_of(shapes, prediction or prediction_of(model)),
        key_digest(shapes),
        sample,
        dtype=storage,
        sample_values=values,
    )
