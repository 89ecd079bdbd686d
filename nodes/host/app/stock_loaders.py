"""The host's own loaders, and its progress bar, for runs without a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.utils
import folder_paths

import nodes

from ....tverase_core.errors import ConfigError
from .paths import can_be_path


def require_file(kind: str, name: str, what: str) -> None:
    """Raises ConfigError unless `models/<kind>` holds that file."""
    if not can_be_path(name) or folder_paths.get_full_path(kind, name) is None:
        raise ConfigError(
            f"{what}: there is no {name!r} in models/{kind} of this ComfyUI. Put it there, or "
            "correct the name."
        )


def load_checkpoint(name: str) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE. Raises ConfigError when the file lacks one of them."""
    parts = nodes.CheckpointLoaderSimple().load_checkpoint(name)[:3]
    lacking = [p for p, it in zip(("model", "CLIP", "VAE"), parts, strict=True) if it is None]
    if lacking:
        raise ConfigError(f"{name} holds no {' and no '.join(lacking)}. Give a full checkpoint.")
    return parts


def load_clip_vision(name: str) -> Any:
    """CLIP_VISION of a file in models/clip_vision."""
    return nodes.CLIPVisionLoader().load_clip(name)[0]


def watch_progress(show: Callable[[int, int], None]) -> None:
    """Call show(done, total) whenever a progress bar that is made from now on moves."""

    def hook(done: int, total: int, *_: Any, **__: Any) -> None:
        show(done, total)

    comfy.utils.set_progress_bar_global_hook(hook)
