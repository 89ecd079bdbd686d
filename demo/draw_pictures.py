"""Draws the sixteen cats in demo/pictures with the demo model: `python demo/draw_pictures.py`.

`Load Images from Folder` offers them, so that erasing from pictures can be tried at once.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))
FOLDER = ROOT / "demo" / "pictures" / "cats"
COUNT, FIRST_SEED = 16, 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True, help="a ComfyUI source tree")
    options = parser.parse_args()
    from devtools import in_process

    in_process.import_host(options.comfyui)
    nodes = in_process.load_pack().NODE_CLASS_MAPPINGS
    import torch
    from PIL import Image

    draw = {"steps": 20, "cfg": 5.0, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
    draw |= {"batch_size": COUNT, "caption": ""}
    with torch.inference_mode():
        model, clip, vae = nodes["TVEraseDemoModel"]().load()
        _, latents = nodes["TVEraseConceptSetFromPrompt"]().draw(
            model,
            clip,
            "a cat",
            "cat",
            COUNT,
            64,
            64,
            FIRST_SEED,
            batch_size=16,
            caption="",
            **draw,
        )
        images = vae.decode(latents["samples"])
    FOLDER.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        pixels = (image[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(FOLDER / f"cat_{number:02}.png", optimize=True)
    print(f"wrote {len(images)} pictures to demo/pictures/cats")


if __name__ == "__main__":
    main()
