"""Whether a job fits into memory, asked before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.model_management

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

# What needs less memory, by what the caller is called.
ADVICE = {
    "Concept Fine-tune": "Choose fewer blocks with a block mask, a smaller batch part, or a rank.",
    "ESD": "Set variant to x, or lower batch_size.",
    "STEREO": "Set variant to x, or lower batch_size.",
    "Few-shot Unlearning": "Lower batch_size, or load the CLIP on the CPU.",
    "Diverse Inversion": "Set at_once to a small number (0 is all of them), or lower batch.",
    "Concept Inversion Attack": "Lower at_once.",
    "Auto-Strength": "Connect a block mask of fewer blocks: the edit lies beside the model.",
    "Auto Block Mask": "Take a vector that changes fewer blocks: it lies beside the model.",
    "Measure Interference": "Take vectors that change fewer blocks: they lie beside the model.",
}
OTHER_ADVICE = "Load a file of the model with smaller weights, such as an fp8 one."


def refuse_too_large(model: ModelPatcher, extra_bytes: int, purpose: str) -> None:
    """Raises MemoryError, with advice for the node `purpose`, when the model and `extra_bytes`
    more cannot be had on the device that the model is loaded on."""
    device = model.load_device
    needed = model.model_size() + extra_bytes
    if device.type == "cpu":
        free = comfy.model_management.get_free_memory(device)
        needed = extra_bytes  # the weights are in this memory already
    else:
        free = comfy.model_management.get_total_memory(device)
    if needed > free:
        gib = 1024**3
        raise MemoryError(
            f"{purpose} needs about {needed / gib:.1f} GiB on {device.type}, {free / gib:.1f} GiB "
            f"can be had. {ADVICE.get(purpose, OTHER_ADVICE) if extra_bytes else OTHER_ADVICE}"
        )
