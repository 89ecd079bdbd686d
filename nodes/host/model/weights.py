"""Reading a MODEL's weights: true base values, what is patched, which base it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from ....tverase_core.errors import BaseMismatchError, listed
from ....tverase_core.model.fingerprint import (
    BaseFingerprint,
    architecture_of,
    key_digest,
    sample_sha256,
    sample_values,
    sampled,
    storage_of,
)
from ....tverase_core.model.layout import ModelLayout
from ....tverase_core.model.sample_values import packed, packed_spread
from ..app.version import host_version
from ..network.schedule import prediction_of
from ..storage.formats import READABLE, bits_of, layer_of, stored_as, values
from ..storage.view import PREFIX, view_of
from .computed import computed

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def model_shapes(model: ModelPatcher) -> Mapping[str, torch.Size]:
    """See `WeightView.shapes`."""
    return view_of(model).shapes


def wrappable_shapes(model: ModelPatcher) -> Mapping[str, torch.Size]:
    """See `WeightView.usable`."""
    return view_of(model).usable


def trainable_shapes(model: ModelPatcher) -> Mapping[str, torch.Size]:
    """See `WeightView.trainable`."""
    return view_of(model).trainable


def layout_of(model: ModelPatcher) -> ModelLayout:
    """The block names of this model."""
    return view_of(model).layout


def patched_keys(model: ModelPatcher) -> list[str]:
    """Diffusion-model weights that carry patches (a LoRA, a merge, an erasure)."""
    names = [key if isinstance(key, str) else key[0] for key in model.patches]
    return sorted(name for name in names if name.startswith(PREFIX))


def stored_weight(model: ModelPatcher, key: str) -> torch.Tensor:
    """The unpatched weight as the host holds it, be the model loaded with patches or not."""
    layer, name = layer_of(model.model, key)
    if key in model.object_patches_backup:
        return model.object_patches_backup[key]
    if key in getattr(model, "hook_backup", {}):  # ComfyUI has hooks since 0.3.7
        return model.hook_backup[key][0]
    return model.backup[key].weight if key in model.backup else getattr(layer, name)


def base_weight(model: ModelPatcher, key: str) -> torch.Tensor:
    """The unpatched weight, float32 where it is packed, else as stored."""
    return values(*layer_of(model.model, key), stored_weight(model, key))


def effective_weight(model: ModelPatcher, key: str) -> torch.Tensor:
    """float32 on the CPU, with the model's own patches applied.

    Raises BaseMismatchError when the host would leave a patch out.
    """
    weight = base_weight(model, key).to("cpu", torch.float32, copy=True)
    patches = model.patches.get(key)
    return computed(patches, weight, key) if patches else weight


def refuse_failing_patches(model: ModelPatcher) -> None:
    """Raise BaseMismatchError when the host would leave a patch out of the weights it computes."""
    for key in model_shapes(model):
        if key in model.patches:
            effective_weight(model, key)


def fingerprint(model: ModelPatcher, prediction: str = "") -> BaseFingerprint:
    """Who this base is: family, digest of its weights' names and shapes, hash of their sample.

    prediction: what the family's name shall say instead of what the model itself predicts. Some
    vectors of v models name the epsilon family, since older versions of the pack took their word.
    """
    shapes = model_shapes(model)
    family = architecture_of(shapes, prediction or prediction_of(model))
    return sampled_fingerprint(model, family, sorted(shapes))


def sampled_fingerprint(
    model: ModelPatcher, family: str, keys: list[str], prefix: str = PREFIX, put_before: str = ""
) -> BaseFingerprint:
    """The fingerprint of these weights, sorted, of `view_of(model, prefix)`.

    put_before: comes before their names in the digest. Merges are part of the base, LoRAs and
    erasures after them are edits of it. Sampled once per loaded model, with merges at each call.
    """
    view = view_of(model, prefix)
    merged = any(_merges(patch) for patches in model.patches.values() for patch in patches)
    sample = _sample(model, keys, prefix) if merged or not view.sample else view.sample
    if not merged:
        view.sample = sample
    shapes = {put_before + key: view.shapes[key] for key in keys}
    return BaseFingerprint(family, key_digest(shapes), **sample)


def _sample(model: ModelPatcher, keys: list[str], prefix: str) -> dict[str, str | None]:
    """The fields of a fingerprint that say what the weights are and how they are stored."""
    view = view_of(model, prefix)
    samples, kinds, spread = {}, [], []
    for key in keys:
        layer, name = layer_of(model.model, key)
        stored = stored_weight(model, key)
        # Unpacked where that is fast; only the sample comes back.
        where = model.load_device if key in view.packed else stored.device
        weight = values(layer, name, stored.to(where))
        samples[key] = _merged_sample(model, key, weight)
        # Not the dtype that the host names: with dynamic memory management weights stay as the
        # file has them until they are used, and the name is of what they become then.
        kinds.append((stored_as(layer, name, stored), view.shapes[key].numel()))
        size = float(samples[key].float().square().mean().sqrt()) if key in view.packed else 0.0
        if len(samples[key]):
            spread.append(torch.tensor(packed_spread(bits_of(stored), size)))
    _refuse_misread(samples)
    return {
        "sample_sha256": sample_sha256(samples),
        "dtype": storage_of(kinds),
        "sample_values": sample_values(samples),
        "sample_spread": packed(spread) if view.packed else None,
    }


def _refuse_misread(samples: Mapping[str, torch.Tensor]) -> None:
    """Raise BaseMismatchError when an older host has taken a quantised file for a plain one: it
    copies the stored whole numbers, leaves their scales out, and says nothing."""
    whole = [key for key, sample in samples.items() if _large_whole_numbers(sample.float())]
    if whole:
        raise BaseMismatchError(
            f"{len(whole)} weights of this model are whole numbers ({listed(whole)}): ComfyUI "
            f"{host_version()} does not know the file's quantised format and has read it as a "
            f"plain one. What can be read: {READABLE}. Update ComfyUI or load the model in fp16."
        )


def _large_whole_numbers(values: torch.Tensor) -> bool:
    return (
        len(values) > 1 and float(values.abs().amax()) > 16 and torch.equal(values, values.round())
    )


def _merges(patch: tuple) -> bool:
    """Whether a patch brings another model's weights or takes from the model's own, as the stock
    merge nodes' do, where a LoRA's or an erasure's adds something."""
    strength, value, own_share = patch[:3]
    replaces = isinstance(value, list) or (isinstance(value, tuple) and value[0] == "set")
    return own_share != 1 or (strength != 0 and replaces)


def _merged_sample(model: ModelPatcher, key: str, weight: torch.Tensor) -> torch.Tensor:
    """`sampled` of the weight with its merges in it, in the stored dtype."""
    patches = model.patches.get(key, [])
    last = max((i + 1 for i, patch in enumerate(patches) if _merges(patch)), default=0)
    if last:
        own = weight.to("cpu", torch.float32, copy=True)
        weight = computed(patches[:last], own, key).to(weight.dtype)
    return sampled(weight)
