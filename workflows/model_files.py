"""Where the files are that ComfyUI can offer to download; by the name a loader's widget holds.

Places that were seen in public, each more than once; for other files nothing is offered.
"""

from __future__ import annotations

HUB = "https://huggingface.co"
Z_IMAGE = f"{HUB}/Comfy-Org/z_image/resolve/main/split_files"
# URL, and the folder below models/
FILES = {
    "v1-5-pruned-emaonly-fp16.safetensors": (
        f"{HUB}/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/"
        "v1-5-pruned-emaonly-fp16.safetensors",
        "checkpoints",
    ),
    "sd_xl_base_1.0.safetensors": (
        f"{HUB}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
        "checkpoints",
    ),
    "z_image_bf16.safetensors": (
        f"{Z_IMAGE}/diffusion_models/z_image_bf16.safetensors",
        "diffusion_models",
    ),
    "qwen_3_4b.safetensors": (f"{Z_IMAGE}/text_encoders/qwen_3_4b.safetensors", "text_encoders"),
}


def models(names: list[str]) -> list[dict[str, str]]:
    """A node's `properties.models`, for the files it names."""
    known = [(name, *FILES[name]) for name in names if name in FILES]
    return [{"name": name, "url": url, "directory": folder} for name, url, folder in known]
