"""Inputs as ComfyUI asks for them: a type, or a list to choose from, and options by name.

tooltip: what the input is for. options: ComfyUI's others, such as advanced=True.
"""

from __future__ import annotations

from typing import Any

Widget = tuple[Any, dict[str, Any]]
Widgets = dict[str, Widget]


def whole(default: int, span: tuple[int, int], tooltip: str, **options: Any) -> Widget:
    """A whole number; span: the least and the most."""
    ends = dict(zip(("min", "max"), span, strict=True))
    return "INT", {"default": default, **ends, "tooltip": tooltip, **options}


def number(
    default: float, span: tuple[float, float, float], tooltip: str, **options: Any
) -> Widget:
    """A number; span: the least, the most, and the step of its arrows."""
    ends = dict(zip(("min", "max", "step"), span, strict=True))
    return "FLOAT", {"default": default, **ends, "tooltip": tooltip, **options}


def switch(default: bool, tooltip: str, **options: Any) -> Widget:
    """On or off."""
    return "BOOLEAN", {"default": default, "tooltip": tooltip, **options}


def text(default: str, tooltip: str, **options: Any) -> Widget:
    """A line; with multiline=True, several."""
    return "STRING", {"default": default, "tooltip": tooltip, **options}


def choice(choices: list[str], tooltip: str, **options: Any) -> Widget:
    """One of these; `default` is among the options."""
    return choices, {"tooltip": tooltip, **options}


def seed(tooltip: str) -> Widget:
    """A seed that stays as it is from run to run."""
    return whole(0, (0, 2**53), tooltip, control_after_generate=False)


def socket(kind: str, tooltip: str) -> Widget:
    """An input that takes a wire of that kind."""
    return kind, {"tooltip": tooltip}


PRECISION = choice(
    ["auto", "patch", "runtime_exact"],
    "patch: the edit is written into the loaded weights, can be saved and combined. "
    "runtime_exact: it is added whenever a weight is used, so that bf16, fp8 and quantised models "
    "lose none of it; cannot be saved. auto: runtime_exact where patch would lose more than 10 % "
    "of the edit, else patch; the node says which.",
    default="auto",
    advanced=True,
)
