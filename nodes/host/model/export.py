"""A MODEL's weights, edits included, under the names that diffusers gives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.utils
import folder_paths
import torch

from ....tverase_core.errors import BaseMismatchError, listed
from ....tverase_core.files.diffusers_names import diffusers_names
from ....tverase_core.model.layout import detect_layout
from ..storage.view import PREFIX, view_of
from .at_use import refuse_edits_at_use
from .patching import plain_clone
from .weights import refuse_failing_patches

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def names_to_export(keys: Iterable[str]) -> dict[str, str]:
    """Our key -> diffusers' name, for every key.

    Raises BaseMismatchError for a model that is no UNet, or a weight without such a name.
    """
    wanted = list(keys)
    if detect_layout(wanted).name != "sd-unet":
        raise BaseMismatchError(
            "Export knows diffusers' names of Stable Diffusion UNets (1.x, 2.x, XL) only. Use "
            "ComfyUI's Save Model node for this model."
        )
    names = {ours: theirs for theirs, ours in diffusers_names(wanted).items()}
    missing = [key for key in wanted if key not in names]
    if missing:
        raise BaseMismatchError(
            f"{len(missing)} weights have no name in diffusers: {listed(missing)}. Use ComfyUI's "
            "Save Model node for this model."
        )
    return names


def export_unet(model: ModelPatcher, prefix: str) -> Path:
    """Write all weights as stored, patched by the host as its own savers have them patched.

    prefix: folder and name under the output folder; a number is added. Returns the file.
    Raises BaseMismatchError: what `names_to_export` and `plain_clone` refuse, edits that no weight
    shows, and patches that the host cannot compute.
    """
    refuse_edits_at_use(model, "Export UNet")
    packed = view_of(model).packed
    if packed:
        raise BaseMismatchError(
            f"{len(packed)} weights of this model are quantised ({listed(sorted(packed))}), which "
            "diffusers' files of a UNet are not. Use ComfyUI's Save Model node, which keeps the "
            "format, or export the same model loaded in fp16, bf16 or fp32."
        )
    names = names_to_export(model.model_state_dict(PREFIX))
    refuse_failing_patches(model)
    with _patched_weights(model) as patched:
        tensors = {name: patched[key].cpu().contiguous() for key, name in names.items()}
        root = folder_paths.get_output_directory()
        folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, root)
        path = Path(folder) / f"{name}_{counter:05}_.safetensors"
        comfy.utils.save_torch_file(tensors, str(path), metadata={"format": "pt"})
    return path


@contextmanager
def _patched_weights(model: ModelPatcher) -> Iterator[Mapping[str, torch.Tensor]]:
    """The MODEL's weights with its patches in them, for the time of the block.

    Under dynamic memory management the modules hold unpatched weights at all times, in the file's
    dtype, and the host patches them in use. A clone outside it has weights as elsewhere.
    """
    managed = getattr(model, "is_dynamic", None)  # since ComfyUI 0.12
    if managed is None or not managed():
        comfy.model_management.load_models_gpu([model], force_patch_weights=True)
        yield model.model_state_dict(PREFIX)
        return
    clone = plain_clone(model)
    try:
        comfy.model_management.load_models_gpu([clone], force_patch_weights=True)
        yield clone.model_state_dict(PREFIX)
    finally:
        clone.detach()  # its module is the clone's alone and would stay on the device
