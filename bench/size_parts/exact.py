"""What of an edit reaches the weights, by the base model's number format and by mode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from devtools.figures import Figure
from devtools.in_process import import_host, load_pack
from tverase_core.model.layout import detect_layout

from .big_model import build, deltas, shapes

# Every kind of layer at every width; rounding differs by neither, so more would tell no more.
BLOCKS = ("TIME", "IN01", "IN04", "M00", "OUT11", "FINAL")
SAMPLE = 1 << 16  # evenly spaced values compared in each weight
SHARE = 0.003  # of the weights' size: what a fine-tune of few steps moves
# storage -> what a graphics card computes in
FORMATS = {
    "fp16": (torch.float16, torch.float16),
    "bf16": (torch.bfloat16, torch.bfloat16),
    "fp8_e4m3": (torch.float8_e4m3fn, torch.bfloat16),
}


def exact_figures(comfyui: Path, work: Path) -> dict[str, Figure]:
    """Figures `exact_*` and `runtime_exact_cosine_min`.

    On SD1.5's architecture at full size: every weight of `BLOCKS`, changed by 0.3 % of its size.
    """
    import_host(comfyui)
    load_pack()
    figures: dict[str, Figure] = {}
    worst = 1.0
    for name, (storage, compute) in FORMATS.items():
        patched, runtime = _measure(storage, compute)
        for mode, loss in (("patch", patched), ("runtime", runtime)):
            figures[f"exact_{mode}_cosine_{name}"] = Figure(loss.cosine)
            figures[f"exact_{mode}_norm_ratio_{name}"] = Figure(loss.norm_ratio)
        worst = min(worst, runtime.cosine)
    figures["runtime_exact_cosine_min"] = Figure(worst, ">= 0.999")
    return figures


def _measure(storage: torch.dtype, compute: torch.dtype) -> tuple[Any, Any]:
    """RoundingLoss of patch mode and of runtime-exact mode."""
    from tverase_pack.nodes.host.model.exact import exact_clone
    from tverase_pack.nodes.host.model.patching import patched_clone
    from tverase_pack.nodes.host.model.weights import model_shapes
    from tverase_pack.tverase_core.vector.rounding import Comparison

    layout = detect_layout(shapes("sd15"))
    chosen = {key for key in shapes("sd15") if layout.block(key) in BLOCKS}
    model = build("sd15", storage, compute, chosen.__contains__)
    edited = {key: shape for key, shape in model_shapes(model).items() if key in chosen}
    wanted = deltas(edited, SHARE)
    patched, runtime = Comparison(), Comparison()
    with torch.inference_mode():
        before = dict(model.model_state_dict())  # patching puts new tensors in their place
        clone = patched_clone(model, {-1.0: wanted})
        clone.patch_model(device_to=torch.device("cpu"))
        for key, delta in wanted.items():
            after = clone.model.get_parameter(key)
            patched.add(*_sample(-delta, after.float() - before[key].float()))
        clone.unpatch_model(device_to=torch.device("cpu"))
        clone = exact_clone(model, {-1.0: wanted})
        clone.patch_model(device_to=torch.device("cpu"))
        for key, value in _used(clone, compute):
            runtime.add(*_sample(-wanted[key], value - before[key].to(compute).double()))
        clone.detach()
    return patched.loss(), runtime.loss()


def _sample(meant: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Both at the same places, and how many values each of them stands for."""
    step = max(1, meant.numel() // SAMPLE)
    some = meant.flatten()[::step]
    return some, real.flatten()[::step], meant.numel() / len(some)


def _used(model: Any, compute: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """(key, float64 weight that the layer computes with), both parts of split weights."""
    import comfy.ops
    from tverase_pack.tverase_core.vector.split_weight import SplitWeight

    sample = torch.empty(0, dtype=compute)
    for path, module in model.model.named_modules():
        if getattr(module, "weight_function", None):
            pair = comfy.ops.cast_bias_weight(module, sample)
            for name, value in zip(("weight", "bias"), pair, strict=True):
                if isinstance(value, SplitWeight):
                    yield f"{path}.{name}", value.main().double() + value.delta().double()
                elif value is not None:
                    yield f"{path}.{name}", value.double()
