"""Estimates of what Concept Fine-tune needs on graphics cards: `python dev.py bench memory_table`.

Writes docs/memory.md. Nothing is run on a card: these are the node's own estimates.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# At the end: ahead, the pack's `nodes` would hide ComfyUI's.
sys.path.append(str(ROOT))

import torch  # noqa: E402 - after the path

from bench.size_parts.big_model import shapes  # noqa: E402 - after the path
from devtools.in_process import import_host, load_pack  # noqa: E402 - after the path

PAGE = ROOT / "docs" / "memory.md"
CARDS = (8, 12, 16, 24)
USABLE = 0.9  # of a card, the rest being the driver's, the screen's and fragmentation
MODELS = {"SD 1.5, 512x512": ("sd15", 64), "SDXL, 1024x1024": ("sdxl", 128)}
GIB = 1024**3
HEAD = """# Memory of Concept Fine-tune

Written by `python dev.py bench memory_table`; estimates, not measurements. A float16 base computed
in bfloat16, batches of 16 pictures in 16 parts, moving average on; with a fused backward pass
(`fused_backward`) batches of 2 in one part. GPU memory includes the model.
A card is named when the estimate is at most {usable:.0%} of it; `-` is none of {cards} GB. The node
makes the same estimate for your settings, shows it before the run and beside what was used after.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    import_host(parser.parse_args().comfyui.resolve())
    load_pack()
    text = HEAD.format(usable=USABLE, cards=", ".join(map(str, CARDS)))
    for title, (name, size) in MODELS.items():
        text += (
            f"\n## {title}\n\n| trained | checkpointing | optimizer | GPU GiB | RAM GiB | card |\n"
        )
        text += "|---|---|---|---|---|---|\n" + "\n".join(rows(name, size)) + "\n"
    PAGE.write_text(text, "utf-8")
    print(text)
    return 0


def rows(name: str, size: int) -> list[str]:
    """One line of the table for each way to train."""
    from tverase_pack.nodes.host.model.conditioning import text_width
    from tverase_pack.nodes.host.training.activations import activations
    from tverase_pack.tverase_core.finetuning.config import FinetuneConfig
    from tverase_pack.tverase_core.finetuning.memory_plan import memory_plan
    from tverase_pack.tverase_core.model.layout import detect_layout
    from tverase_pack.tverase_core.ports import Context

    weights = shapes(name)
    layout, model = detect_layout(weights), empty_model(weights)
    width = text_width(model) or 0
    text = Context(torch.zeros(1, 77, width), {"pooled_output": torch.zeros(1, 1280)})
    base = 2 * sum(math.prod(shape) for shape in weights.values())

    def cross(key: str) -> bool:
        return layout.kind(key) == "cross_attn"

    lines = []
    for words, rank, chosen, fused in (
        ("all weights", None, None, False),
        ("all weights, fused backward pass", None, None, True),
        ("cross-attention", None, cross, False),
        ("all, rank 16", 16, None, False),
        ("cross-attention, rank 16", 16, cross, False),
    ):
        pictures, parts = (2, 1) if fused else (16, 16)
        config = FinetuneConfig(
            batch_size=pictures, accumulation=parts, rank=rank, trainable=chosen
        )
        trained = {key for key, shape in weights.items() if config.allows(key, len(shape))}
        part = (pictures // parts, 4, size, size)
        asked = (model, part, trained.__contains__, text, torch.bfloat16)
        counted = activations(*asked, low_rank=rank is not None)
        for optimizer, short in (("adamw", "AdamW"), ("adamw8bit", "8-bit")):
            whole = replace(config, optimizer=optimizer)
            for recompute in (False, True):
                plan = memory_plan(weights, whole, counted, recompute, fused=fused)
                need = (base + plan.device) / GIB
                card = next((f"{gb} GB" for gb in CARDS if need <= USABLE * gb), "-")
                lines.append(
                    f"| {words} | {'on' if recompute else 'off'} | {short} | {need:.1f} | "
                    f"{plan.host / GIB:.1f} | {card} |"
                )
    return lines


def empty_model(weights: dict[str, list[int]]) -> Any:
    """The MODEL of these weights without content."""
    import comfy.model_detection
    import comfy.model_patcher

    meta = {key: torch.empty(shape, device="meta") for key, shape in weights.items()}
    config = comfy.model_detection.model_config_from_unet(meta, "diffusion_model.")
    config.set_inference_dtype(torch.float16, torch.bfloat16)
    network = config.get_model({}, "diffusion_model.", device="meta")
    place = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(network, load_device=place, offload_device=place)


if __name__ == "__main__":
    sys.exit(main())
