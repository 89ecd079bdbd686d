"""Edits on quantised models, beside stock Load LoRA: `python dev.py bench quantised`.

Set COMFYUI_PATH and COMFYUI_PYTHON to ComfyUI 0.33 or newer: older ones lack most formats, which is
said and nothing is written. On a CPU, with a random UNet of 13 million weights in each format: how
much of an edit of 1 % arrives as patches, by stock Load LoRA at -1 with the same file, and at use;
what a step costs then. Writes bench/results/quantised.json. Times on a GPU are others.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parent.parent
# At the end: ahead, the pack's `nodes` would hide ComfyUI's.
sys.path += [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402 - after the path
from torch import Tensor  # noqa: E402

from devtools import in_process  # noqa: E402
from devtools.figures import Figure, figures_document, figures_table, write_figures  # noqa: E402
from devtools.machine import cpu_name  # noqa: E402

RESULT = ROOT / "bench" / "results" / "quantised.json"
WIDTH, CONTEXT, RANK, SHARE, ROUNDS, SIDE = 128, 256, 8, 0.01, 6, 32
Weights = dict[str, Tensor]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    in_process.import_host(parser.parse_args().comfyui)
    in_process.load_pack()
    torch.set_num_threads(1)
    from tverase_pack.nodes.host.app.version import host_version

    from host_support import quantised

    formats = quantised.known_formats()
    if len(formats) < len(quantised.KITCHEN) + 3:
        print(f"ComfyUI {host_version()} knows {', '.join(formats)} alone. Set COMFYUI_PATH and")
        print("COMFYUI_PYTHON to ComfyUI 0.33 or newer. Nothing was written.")
        return 2
    plain = plain_model()
    weights = quantised.plain_weights(plain)
    found = {}
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        for name in formats:
            found[name] = tried(plain, quantised.quantised_model(name, weights), Path(folder))
            print(name, {key: round(value, 4) for key, value in found[name].items()}, flush=True)
    environment = {"comfyui": host_version(), "torch": torch.__version__, "cpu": cpu_name()}
    when = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    command = "python dev.py bench quantised"
    document = figures_document("quantised", command, when, environment, figures(found))
    document["formats"] = found
    write_figures(RESULT, document)
    print(figures_table(document))
    return 0


def figures(found: dict[str, dict[str, float]]) -> dict[str, Figure]:
    """The worst format decides."""
    every, total = list(found.values()), len(found)
    norms = [max(f["at_use_norm_ratio"], 1 / f["at_use_norm_ratio"]) for f in every]
    working = sum(
        f["recognised"] and f["patch_is_stock"] and f["at_use_cosine"] >= 0.999 for f in every
    )
    ratios = {
        f"step_time_ratio_{kind}": Figure(max(f[f"time_{kind}"] for f in every), f"<= {goal}")
        for kind, goal in (("full", 1.25), ("low_rank", 1.1))
    }
    return {
        "at_use_cosine_min": Figure(min(f["at_use_cosine"] for f in every), ">= 0.999"),
        "at_use_norm_ratio_worst": Figure(max(norms), "<= 1.001"),
        **ratios,
        "memory_ratio_full": Figure(max(f["memory_full"] for f in every), "<= 1"),
        "formats_total": Figure(total, ">= 8"),
        "formats_working": Figure(working, f">= {total}"),
        "base_recognised_across_formats": Figure(
            sum(f["recognised"] for f in every), f">= {total}"
        ),
        "stock_lora_cosine_min": Figure(min(f["stock_cosine"] for f in every)),
    }


def tried(
    plain: Any, model: Any, folder: Path, rounds: int = ROUNDS, side: int = SIDE
) -> dict[str, float]:
    """All figures of one format; rounds, side: of `step_times`, and of the latents drawn."""
    import comfy.sd
    import comfy.utils
    from tverase_pack.nodes.host.model.exact import exact_clone, exact_edits
    from tverase_pack.nodes.host.model.patching import patched_clone
    from tverase_pack.nodes.host.model.weights import fingerprint

    from tverase_core.files.task_vector_file import load_task_vector, save_task_vector

    full, thin = vector_of(plain), vector_of(plain, RANK)
    verdict = full.base.compare(fingerprint(model))
    path = folder / "full.tv.safetensors"
    save_task_vector(path, full)
    loaded = load_task_vector(path)
    stock = comfy.sd.load_lora_for_models(
        model, None, comfy.utils.load_torch_file(str(path)), -1.0, 0.0
    )[0]
    patched = patched_clone(model, {-1.0: loaded.deltas})
    exact = exact_clone(model, {-1.0: loaded.deltas})
    low_rank = exact_clone(model, {-1.0: thin.deltas})
    before = used(model)
    arrived = {
        name: compared(full.deltas, before, used(m))
        for name, m in (("patch", patched), ("stock", stock), ("at_use", exact))
    }
    thin_arrived = compared(thin.deltas, before, used(low_rank))
    times = step_times({"base": model, "full": exact, "low_rank": low_rank}, rounds, side)
    times |= step_times({"stock": stock}, rounds, side)
    kept = sum(extra_bytes(slot) for slot in exact_edits_slots(exact, side))
    assert exact_edits(exact)
    return {
        "recognised": float(verdict in ("same", "same_when_rounded")),
        **{f"{name}_cosine": loss.cosine for name, loss in arrived.items()},
        **{f"{name}_norm_ratio": loss.norm_ratio for name, loss in arrived.items()},
        "at_use_cosine": min(arrived["at_use"].cosine, thin_arrived.cosine),
        "patch_is_stock": float(torch.equal(drawn(patched, side), drawn(stock, side))),
        **{f"time_{name}": times[name] / times["base"] for name in ("full", "low_rank", "stock")},
        "memory_full": kept / sum(4 * delta.numel() for delta in full.deltas.values()),
    }


def plain_model(
    width: int = WIDTH, context: int = CONTEXT, storage: torch.dtype = torch.float16
) -> Any:
    """A MODEL of SD 1.x's build on the CPU."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    from host_support import tiny_host

    wanted = {**tiny_host.UNET, "model_channels": width, "context_dim": context}

    class BenchSD15(tiny_host.TinySD15):
        unet_config: ClassVar[dict[str, Any]] = {
            **tiny_host.TinySD15.unet_config,
            "context_dim": context,
            "model_channels": width,
        }
        unet_extra_config: ClassVar[dict[str, Any]] = {"num_heads": 4, "num_head_channels": -1}

    comfy.supported_models.models.append(BenchSD15)
    with torch.inference_mode():
        config = BenchSD15(dict(wanted))
        config.set_inference_dtype(storage, torch.float32)
        model = comfy.model_base.BaseModel(config, device="cpu")
        tiny_host.fill(model.diffusion_model, 0)
    return comfy.model_patcher.ModelPatcher(model, tiny_host.CPU, tiny_host.CPU)


def vector_of(model: Any, rank: int = 0, share: float = SHARE) -> Any:
    """Noise, `share` of each matrix and convolution, of that rank unless it is 0."""
    from tverase_pack.nodes.host.model.weights import base_weight, fingerprint, model_shapes

    from tverase_core.vector.task_vector import TaskVector

    source, deltas = torch.Generator().manual_seed(7), {}
    for key, shape in model_shapes(model).items():
        if len(shape) < 2:
            continue
        noise = torch.randn((shape[0], shape[1:].numel()), generator=source)
        if rank:
            down = torch.randn((rank, noise.shape[1]), generator=source)
            noise = noise[:, :rank] @ down if noise.shape[1] >= rank else noise
        size = share * base_weight(model, key).float().std() / noise.std()
        deltas[key] = (size * noise).reshape(shape)
    return TaskVector(deltas, fingerprint(model))


def used(model: Any, dtype: torch.dtype = torch.float32) -> Weights:
    """What the loaded layers compute with where they are given `dtype`; float32 on the CPU."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([model], force_full_load=True)
    found = {}
    for path, module in model.model.named_modules():
        if hasattr(module, "weight_function") and getattr(module, "weight", None) is not None:
            given = torch.empty(0, dtype=dtype, device=model.load_device)
            weight = _cast(module, given)
            weight = weight.dequantize() if hasattr(weight, "_qdata") else weight
            whole = weight.whole() if hasattr(weight, "whole") else weight
            scale = getattr(module, "scale_weight", None)  # of ComfyUI's first 8-bit layers
            scaled = whole.float() if scale is None else whole.float() * scale
            found[f"{path}.weight"] = scaled.cpu().clone()
    return found


def _cast(module: Any, given: Tensor) -> Tensor:
    """The weight for that input: of the host, or what an open denoiser gives the layer."""
    import comfy.ops

    if module._forward_pre_hooks:
        module.forward = lambda _: module.weight
        try:
            return module(given)
        finally:
            del module.forward
    own = getattr(module, "cast_bias_weight", None)
    return (own(given) if own else comfy.ops.cast_bias_weight(module, given))[0]


def compared(deltas: Any, before: Weights, after: Weights) -> Any:
    from tverase_core.vector.rounding import Comparison

    total = Comparison()
    for key, delta in deltas.items():
        total.add(-delta, after[key] - before[key])
    return total.loss()


def given(model: Any, side: int) -> tuple[Tensor, Tensor, Tensor]:
    source, device = torch.Generator().manual_seed(11), model.load_device
    x = torch.randn((2, 4, side, side), generator=source)
    width = model.model.model_config.unet_config["context_dim"]
    tokens = torch.randn((2, 77, width), generator=source)
    return x.to(device), torch.full((2,), 1.5, device=device), tokens.to(device)


def drawn(model: Any, side: int) -> Tensor:
    import comfy.model_management

    comfy.model_management.load_models_gpu([model], force_full_load=True)
    x, sigma, tokens = given(model, side)
    return model.model.apply_model(x, sigma, c_crossattn=tokens)


def step_times(models: dict[str, Any], rounds: int, side: int) -> dict[str, float]:
    """Seconds: the shortest of `rounds` steps of each, taken in turns; on a CPU its own seconds."""
    import comfy.model_management

    best, names = dict.fromkeys(models, float("inf")), list(models)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            model = models[name]
            comfy.model_management.load_models_gpu([model], force_full_load=True)
            x, sigma, tokens = given(model, side)
            now = clock(model.load_device)
            for _ in range(3):  # the first makes what is kept
                start = now()
                model.model.apply_model(x, sigma, c_crossattn=tokens)
                best[name] = min(best[name], now() - start)
    return best


def clock(device: torch.device) -> Callable[[], float]:
    """Time in seconds at which the device has done all that it was given."""
    if device.type == "cpu":
        return time.process_time

    def now() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def exact_edits_slots(model: Any, side: int) -> list[Any]:
    """The functions of a loaded exact clone, after a step."""
    drawn(model, side)
    return [
        use.slot
        for module in model.model.modules()
        for use in getattr(module, "weight_function", ())
    ]


def extra_bytes(slot: Any) -> int:
    """What a function keeps beyond the vector."""
    kept = slot._ready
    parts = [kept.up, kept.down] if hasattr(kept, "up") else [kept]
    own = slot.delta.data_ptr()
    return sum(p.nbytes for p in parts if p is not None and p.data_ptr() != own)


if __name__ == "__main__":
    sys.exit(main())
