"""The model that ships with the pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .shared.sockets import CATEGORY
from .shared.widgets import choice

MODEL_FOLDER = Path(__file__).resolve().parent.parent / "demo" / "model"


class DemoModel:
    """Loads one of the small text-to-image models in demo/model."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {},
            "optional": {
                "model": choice(
                    ["UNet", "flow"],
                    "UNet: a small Stable Diffusion (epsilon prediction). flow: a small Z-Image, a "
                    "transformer trained by flow matching; it needs ComfyUI 0.3.75 or newer.",
                    default="UNet",
                )
            },
        }

    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    OUTPUT_TOOLTIPS = (
        "The demo's diffusion model. Use it like any MODEL.",
        "The demo's text encoder.",
        "The demo's VAE: 64x64 pictures, 8x8 latents.",
    )
    FUNCTION = "load"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "A small text-to-image model that ships with TVErase, so that you can try erasing without "
        "a download. It draws 16 objects (cat, dog, heart, ...) in 3 styles (noto, fluent, ink) "
        "at 64x64 pixels. Ask for 'a cat', 'a cat in ink style'. CFG 5 suits both models."
    )
    SEARCH_ALIASES = ["example model", "small model", "emoji model", "load demo"]

    def load(self, model: str = "UNet") -> tuple[Any, Any, Any]:
        from .host.app.demo_model import load_demo_model

        return load_demo_model(MODEL_FOLDER, model)
