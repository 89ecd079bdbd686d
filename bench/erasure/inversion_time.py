"""Time of n inversions in one batch against n inversions one after another, same final loss.

Without the diversity term an inversion takes the same steps alone as in company, so both ways end
at the same losses; the figure is void when they do not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "bench")]

import torch  # noqa: E402 - after the path

from erasure.concepts import CONCEPTS  # noqa: E402
from erasure.stages import Job, learned_pictures  # noqa: E402

COUNT, STEPS, BATCH = 16, 40, 2
TOLERANCE = 0.02  # relative, between the final losses of both ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    job = Job(options.comfyui, CONCEPTS["cat"], 0)
    from tverase_pack.nodes.drawing_settings import drawing_of
    from tverase_pack.nodes.host.drawing import open_studio
    from tverase_pack.tverase_core.inversion import invert, own_seeds
    from tverase_pack.tverase_core.inversion_config import InversionConfig
    from tverase_pack.tverase_core.ports import quiet

    torch.set_num_threads(1)
    with torch.inference_mode():
        pictures = learned_pictures(job)
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
                invert(
                    studio.denoiser, studio.encoder, pictures, alone, quiet, seeds=seed[None]
                ).losses
                for seed in own_seeds(together)
            ]
            ended = time.monotonic()
    losses = torch.cat(single)
    gap = float((batch.losses - losses).abs().max() / losses.mean())
    result = {
        "ratio": (middle - began) / (ended - middle),
        "loss_gap": gap,
        "same_loss": gap <= TOLERANCE,
        "count": COUNT,
    }
    options.output.write_text(json.dumps(result) + "\n")
    print("inversion time", result, flush=True)


if __name__ == "__main__":
    main()
