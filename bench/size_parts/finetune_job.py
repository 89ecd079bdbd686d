"""One process of the fine-tune measurement: one step on a SD1.5-sized MODEL.

    python bench/size_parts/finetune_job.py CASE COMFYUI WORK

Prints JSON: estimate, what was used and the whole process in GiB, seconds, weights trained and
the share of them that moved; or why the fine-tune was refused.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

import torch

from bench.size_parts.big_model import build
from devtools.in_process import import_host, load_pack

GIB = 1024**3
LATENT, TOKENS = (1, 4, 16, 16), (1, 77, 768)


class Watch:
    """What the node's own watch offers to the session, without pictures."""

    def picture(self) -> None:
        return None

    def sentence(self) -> str:
        return ""


def main() -> int:
    case, comfyui, work = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    host = import_host(comfyui)
    host.folder_paths.set_output_directory(work)
    load_pack()
    model = build("sd15", torch.float16, torch.float32)
    try:
        print(json.dumps(step(model, case)))
    except MemoryError as error:
        print(json.dumps({"refused": str(error)}))
    return 0


def step(model: Any, case: str) -> dict[str, Any]:
    import psutil
    from tverase_pack.nodes.host.training.plan import Saving
    from tverase_pack.nodes.host.training.session import checked_config, tuning_session
    from tverase_pack.tverase_core.concept_set import concept_set
    from tverase_pack.tverase_core.finetuning.config import FinetuneConfig
    from tverase_pack.tverase_core.finetuning.train import finetune
    from tverase_pack.tverase_core.model.block_mask import BlockMask
    from tverase_pack.tverase_core.ports import Context

    draw = torch.Generator().manual_seed(0)
    latents, tokens = torch.randn(LATENT, generator=draw), torch.randn(TOKENS, generator=draw)
    pictures = concept_set("cat", latents, Context(tokens))
    rank = 16 if case.startswith("rank16") else None
    optimizer = "adamw8bit" if case.endswith("8bit") else "adamw"
    config = FinetuneConfig(
        steps=1, batch_size=1, accumulation=1, ema=False, rank=rank, optimizer=optimizer
    )
    mask = BlockMask.cross_attention() if case.startswith("cross_attention") else None
    config = checked_config(model, pictures, config, mask, None, 0)
    before = psutil.Process().memory_info().rss
    began = time.monotonic()
    with tuning_session(
        model,
        pictures,
        config,
        Watch(),
        job="",
        saving=Saving(recompute="recomputed" in case, fused=False),
        checkpoint_every=0,
    ) as session:
        done = finetune(
            session.denoiser,
            pictures,
            config,
            session.progress,
            make_optimizer=session.make_optimizer,
        )
        device = session.denoiser.device
    moved = sum(bool(delta.any()) for delta in done.deltas.values())
    return {
        "estimated": session.plan.on(device) / GIB,
        "used": session.peak.extra / GIB,
        "process": (before + session.peak.extra) / GIB,
        "seconds": time.monotonic() - began,
        "trained": len(done.deltas),
        "moved": moved / len(done.deltas),
    }


if __name__ == "__main__":
    sys.exit(main())
