"""Time of n inversions in one batch against n inversions one after another, same final loss.

Without the diversity term an inversion takes the same steps alone as in company, so both ways end
at the same losses; the figure is void when they do not. Measured twice: with torch's own number of
threads, as ComfyUI computes, and with one thread. On many threads a batch gains more, since a
single inversion's small tensors cannot keep them busy.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "bench")]

import torch  # noqa: E402 - after the path

from erasure.automatic import Job, learned_pictures  # noqa: E402
from erasure.concepts import CONCEPTS  # noqa: E402

COUNT, STEPS, BATCH = 16, 40, 2
TOLERANCE = 0.02  # relative, between the final losses of both ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    job = Job(options.comfyui, CONCEPTS["cat"], 0)
    threads = torch.get_num_threads()
    with torch.inference_mode():
        pictures = learned_pictures(job)
        alone = measured(job, pictures, 1)
        own = measured(job, pictures, threads)
    gap = max(alone["loss_gap"], own["loss_gap"])
    result = {
        "ratio": own["ratio"],
        "threads": threads,
        "ratio_one_thread": alone["ratio"],
        "loss_gap": gap,
        "same_loss": gap <= TOLERANCE,
        "count": COUNT,
    }
    options.output.write_text(json.dumps(result) + "\n")
    print("inversion time", result, flush=True)


def measured(job: Job, pictures: Any, threads: int) -> dict[str, float]:
    """ratio: one batch's time by that of single inversions; loss_gap: relative, the largest."""
    from tverase_pack.nodes.host.drawing.studio import open_studio
    from tverase_pack.nodes.shared.drawing_settings import drawing_of
    from tverase_pack.tverase_core.inversion.config import InversionConfig
    from tverase_pack.tverase_core.inversion.engine import invert, own_seeds
    from tverase_pack.tverase_core.ports import quiet

    torch.set_num_threads(threads)
    drawing = drawing_of(job.settings("TVEraseAutoStrength"))
    settings = {"steps": STEPS, "batch": BATCH, "diversity": 0.0, "learning_rate": 5e-2}
    together = InversionConfig(count=COUNT, **settings)
    alone = InversionConfig(count=1, **settings)
    with open_studio(
        job.model, job.clip, None, drawing, purpose="bench claims", autocast=True
    ) as studio:
        began = time.monotonic()
        batch = invert(studio.denoiser, studio.encoder, pictures, together, quiet)
        middle = time.monotonic()
        single = [
            invert(studio.denoiser, studio.encoder, pictures, alone, quiet, seeds=seed[None]).losses
            for seed in own_seeds(together)
        ]
        ended = time.monotonic()
    losses = torch.cat(single)
    return {
        "ratio": (middle - began) / (ended - middle),
        "loss_gap": float((batch.losses - losses).abs().max() / losses.mean()),
    }


if __name__ == "__main__":
    main()
