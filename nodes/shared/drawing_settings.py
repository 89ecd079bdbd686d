"""Widgets of nodes that draw pictures the way the user's KSampler does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..host.drawing.sampling import SamplerSettings


def drawing_widgets() -> dict[str, tuple[Any, dict[str, Any]]]:
    """In their frozen order."""
    from ..host.drawing.sampling import SAMPLERS, SCHEDULERS

    size = {"min": 16, "max": 4096, "step": 8}
    return {
        "sampling_steps": (
            "INT",
            {"default": 20, "min": 1, "max": 1000, "tooltip": "Sampling steps of each picture."},
        ),
        "cfg": (
            "FLOAT",
            {
                "default": 7.5,
                "min": 0.0,
                "max": 100.0,
                "step": 0.1,
                "tooltip": "Guidance. Use the value you draw with: the strength depends on it.",
            },
        ),
        "width": ("INT", {**size, "default": 512, "tooltip": "Picture width in pixels."}),
        "height": ("INT", {**size, "default": 512, "tooltip": "Picture height in pixels."}),
        "sampler_name": (
            SAMPLERS,
            {
                "default": "dpmpp_2m",
                "tooltip": "Sampler, as in your KSampler. Ones that add noise ('ancestral', 'sde') "
                "are less repeatable.",
                "advanced": True,
            },
        ),
        "scheduler": (
            SCHEDULERS,
            {"default": "karras", "tooltip": "Noise schedule.", "advanced": True},
        ),
        "pictures_at_once": (
            "INT",
            {
                "default": 8,
                "min": 1,
                "max": 256,
                "tooltip": "Pictures drawn at once. Lower it when memory runs out.",
                "advanced": True,
            },
        ),
    }


def drawing_of(widgets: dict[str, Any]) -> SamplerSettings:
    """The widgets' values for the host's sampler; other names are left alone."""
    from ..host.drawing.sampling import SamplerSettings

    return SamplerSettings(
        widgets["sampling_steps"],
        widgets["cfg"],
        widgets["sampler_name"],
        widgets["scheduler"],
        widgets["height"] // 8,
        widgets["width"] // 8,
        widgets["pictures_at_once"],
    )


def seed_widget(tooltip: str) -> tuple[str, dict[str, Any]]:
    """A seed that stays as it is from run to run."""
    return (
        "INT",
        {
            "default": 0,
            "min": 0,
            "max": 2**53,
            "control_after_generate": False,
            "tooltip": tooltip,
        },
    )
