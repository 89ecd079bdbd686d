"""Widgets of nodes that draw pictures the way the user's KSampler does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .widgets import Widgets, choice, number, whole

if TYPE_CHECKING:
    from ..host.drawing.sampling import SamplerSettings


def drawing_widgets() -> Widgets:
    """In their frozen order."""
    from ..host.drawing.sampling import SAMPLERS, SCHEDULERS

    return {
        "sampling_steps": whole(20, (1, 1000), "Sampling steps of each picture."),
        "cfg": number(
            7.5,
            (0.0, 100.0, 0.1),
            "Guidance. Use the value you draw with: the strength depends on it.",
        ),
        "width": whole(512, (16, 4096), "Picture width in pixels.", step=8),
        "height": whole(512, (16, 4096), "Picture height in pixels.", step=8),
        "sampler_name": choice(
            SAMPLERS,
            "Sampler, as in your KSampler. Ones that add noise ('ancestral', 'sde') "
            "are less repeatable.",
            default="dpmpp_2m",
            advanced=True,
        ),
        "scheduler": choice(SCHEDULERS, "Noise schedule.", default="karras", advanced=True),
        "pictures_at_once": whole(
            8, (1, 256), "Pictures drawn at once. Lower it when memory runs out.", advanced=True
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
        widgets["height"],
        widgets["width"],
        widgets["pictures_at_once"],
    )
