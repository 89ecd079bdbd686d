"""MODELs whose memory ComfyUI manages dynamically: no CPU has them."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.sd
import torch
from safetensors.torch import save_file
from torch import Tensor
from tverase_pack.nodes.host.model.exact import exact_clone
from tverase_pack.nodes.host.model.patching import patched_clone, plain_clone
from tverase_pack.nodes.host.model.weights import fingerprint

from bench.quantised import SIDE, given, plain_model, vector_of

from .place import Place, SkippedError


def dynamic_vram(place: Place) -> dict[str, Any]:
    """A model file opened by the stock loader: do edits act as on a MODEL without dynamic memory,
    and is the MODEL afterwards as before."""
    path = place.work / "dynamic.safetensors"
    plain = plain_model()
    tensors = plain.model.diffusion_model.state_dict()
    save_file({key: value.clone().contiguous() for key, value in tensors.items()}, path)
    model = comfy.sd.load_diffusion_model(str(path))
    if not getattr(model, "is_dynamic", lambda: False)():
        raise SkippedError(
            "MODELs are not dynamic here: that needs an NVIDIA GPU, comfy-aimdo and ComfyUI 0.12 "
            "or newer."
        )
    static, plan = plain_clone(model), {-1.0: vector_of(plain).deltas}
    base, wanted = drawn(model), drawn(patched_clone(static, plan)) - drawn(static)
    figures = {
        name: {"value": _likeness(drawn(clone) - base, wanted), "target": ">= 0.99"}
        for name, clone in (
            ("patch_cosine", patched_clone(model, plan)),
            ("at_use_cosine", exact_clone(model, plan)),
        )
    }
    known = fingerprint(static)
    same = torch.equal(drawn(model), base)
    return {
        **figures,
        "base_as_before": {"value": float(same), "target": ">= 1"},
        "recognised": {"value": float(known.compare(fingerprint(model)) == "same")},
    }


def drawn(model: Any) -> Tensor:
    comfy.model_management.load_models_gpu([model])  # dynamic ones refuse to be loaded whole
    x, sigma, tokens = given(model, SIDE)
    return model.model.apply_model(x, sigma, c_crossattn=tokens)


def _likeness(real: Tensor, wanted: Tensor) -> float:
    flat = (real.flatten().float(), wanted.flatten().float())
    return float(torch.nn.functional.cosine_similarity(*flat, dim=0))
