"""What learning vectors needs beside the weights, told before it begins."""

from __future__ import annotations

from typing import Any

from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.inversion.config import InversionConfig


def announced_memory(
    model: Any, clip: Any, pictures: ConceptSet, config: InversionConfig, at_once: int
) -> int:
    """Bytes that gradients through the text encoder and the MODEL need; says on the node what the
    text encoder needs in all. at_once: pictures in a forward pass of the MODEL."""
    from ..host.app.progress import show_text
    from ..host.text import memory
    from ..host.training.activations import gradient_bytes_for

    together, gib = config.chunk or config.count, 1024**3
    needed = memory.gradient_bytes(clip, config.template, config.vectors, together)
    show_text(
        f"text encoder: {memory.held_bytes(clip) / gib:.1f} GiB as it is held, about "
        f"{needed / gib:.1f} GiB for gradients through it"
    )
    return needed + gradient_bytes_for(model, pictures, at_once)
