"""A world with known answers for the inversion and strength nodes: judge, VAE, SDXL in small."""

from __future__ import annotations

from typing import Any

import comfy.model_base
import comfy.model_patcher
import comfy.sdxl_clip
import torch
from torch import Tensor

from host_support import tiny_host
from tverase_core.model.fingerprint import BaseFingerprint
from tverase_core.vector.provenance import Provenance
from tverase_core.vector.task_vector import TaskVector

BRIGHT = 0.6  # from this mean on a picture no longer shows the cat
BIAS = "diffusion_model.out.2.bias"  # subtracting a positive delta makes pictures brighter
DRAWING = {
    "sampling_steps": 2,
    "cfg": 1.0,
    "width": 64,
    "height": 64,
    "sampler_name": "euler",
    "scheduler": "normal",
    "pictures_at_once": 16,
}


class MeanJudge:
    """Sees a cat in dark pictures, a dog in any that is not white."""

    def concepts(self) -> tuple[str, ...]:
        return ("cat", "dog")

    def score(self, images: Tensor, concept: str) -> Tensor:
        limit = BRIGHT if concept == "cat" else 0.95
        return (images.mean((1, 2, 3)) < limit).float()


class BlindJudge:
    """Never fires."""

    def score(self, images: Tensor, concept: str) -> Tensor:
        return torch.zeros(len(images))


class FlatVAE:
    """Grey pictures whose brightness follows the latent's mean."""

    middle = 0.5

    def decode(self, latents: Tensor) -> Tensor:
        mean = latents.float().mean((1, 2, 3)).view(-1, 1, 1, 1)
        smooth = torch.nn.functional.interpolate(latents[:, :3].float(), scale_factor=4)
        noise = torch.nn.functional.avg_pool2d(smooth, 5, 1, 2).movedim(1, -1)
        return (self.middle + 0.4 * (0.25 * mean).tanh() + 0.02 * noise).clamp(0, 1)


def bright_vector(model: Any, per_unit: float = 0.3) -> TaskVector:
    """A task vector whose subtraction brightens every picture in proportion to the strength."""
    from tverase_pack.nodes.host.model.weights import fingerprint

    base: BaseFingerprint = fingerprint(model)
    return TaskVector({BIAS: torch.full((4,), per_unit)}, base, Provenance(concepts=("cat",)))


def defaults(cls: Any, **changes: Any) -> dict[str, Any]:
    """A node's widgets at their defaults, but for `changes`."""
    found = {}
    for name, spec in cls.INPUT_TYPES()["required"].items():
        if isinstance(spec[0], list) or "default" in spec[1]:
            found[name] = spec[1].get("default", spec[0][0] if spec[0] else None)
    return {**found, **changes}


def tiny_sdxl() -> tuple[Any, Any]:
    """MODEL and CLIP with two towers, pooled output and size conditioning, as SDXL has them."""
    text_l = {**tiny_host.TEXT, "num_hidden_layers": 3}
    text_g = {**text_l, "hidden_act": "gelu", "hidden_size": 64}
    text_g["intermediate_size"] = 96
    options = {
        "clip_l_model_config": text_l,
        "clip_g_model_config": text_g,
        "dtype": torch.float32,
    }

    class Text(comfy.sdxl_clip.SDXLClipModel):
        pass

    with torch.inference_mode():
        target = comfy.supported_models_base.ClipTarget(comfy.sdxl_clip.SDXLTokenizer, Text)
        clip = comfy.sd.CLIP(target, model_options=options)
        tiny_host.fill(clip.cond_stage_model, 3)
        unet = {
            **tiny_host.UNET,
            "context_dim": 32 + 64,
            "num_classes": "sequential",
            "adm_in_channels": 64 + 6 * 256,
        }
        config = tiny_host.TinySD15(unet)
        config.set_inference_dtype(torch.float32, None)
        model = comfy.model_base.SDXL(config, device="cpu")
        tiny_host.fill(model.diffusion_model, 0)
    patcher = comfy.model_patcher.ModelPatcher(
        model, load_device=tiny_host.CPU, offload_device=tiny_host.CPU
    )
    return patcher, clip
