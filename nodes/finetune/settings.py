"""The widgets of Concept Fine-tune, in their frozen order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...tverase_core.finetuning.config import FinetuneConfig

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "steps": (
        "INT",
        {
            "default": 200,
            "min": 1,
            "max": 100000,
            "tooltip": "Optimizer steps. The paper's code uses 200.",
        },
    ),
    "learning_rate": (
        "FLOAT",
        {
            "default": 1e-5,
            "min": 1e-8,
            "max": 1.0,
            "step": 1e-6,
            "round": False,
            "tooltip": "Learning rate: 1e-5 for full-size models (the paper's), about 1e-4 with "
            "a rank; 2e-4 for the demo model, 4e-4 there with a retained set.",
        },
    ),
    "batch_size": (
        "INT",
        {
            "default": 16,
            "min": 1,
            "max": 4096,
            "tooltip": "Pictures per optimizer step. The paper's code: 16.",
        },
    ),
    "accumulation": (
        "INT",
        {
            "default": 4,
            "min": 1,
            "max": 4096,
            "tooltip": "Parts that a batch is computed in. More parts need less memory "
            "and give the same result. Must divide batch_size.",
        },
    ),
    "seed": (
        "INT",
        {
            "default": 0,
            "min": 0,
            "max": 2**53,
            "control_after_generate": False,
            "tooltip": "Same seed, same task vector.",
        },
    ),
    "flip": (
        "BOOLEAN",
        {
            "default": True,
            "tooltip": "Mirror latents at random, which nearly, not quite, is what the VAE makes "
            "of mirrored pictures. Off for text, faces with a side, and for the demo model.",
            "advanced": True,
        },
    ),
    "ema": (
        "BOOLEAN",
        {
            "default": True,
            "tooltip": "Use the moving average of the weights, as the paper's code "
            "does. It makes the vector about a tenth shorter and smoother.",
            "advanced": True,
        },
    ),
    "weight_decay": (
        "FLOAT",
        {
            "default": 0.01,
            "min": 0.0,
            "max": 1.0,
            "step": 0.001,
            "tooltip": "AdamW's weight decay; it pulls the change towards zero.",
            "advanced": True,
        },
    ),
    "gradient_clip": (
        "FLOAT",
        {
            "default": 1.0,
            "min": 0.01,
            "max": 1000.0,
            "step": 0.1,
            "tooltip": "Largest gradient norm of a step.",
            "advanced": True,
        },
    ),
    "rank": (
        "INT",
        {
            "default": 0,
            "min": 0,
            "max": 1024,
            "tooltip": "0 trains full weights (the paper). Above 0 trains a change of "
            "that rank in each matrix: less memory.",
            "advanced": True,
        },
    ),
}

CHECKPOINTING: dict[str, bool | None] = {"when needed": None, "always": True, "never": False}
OPTIMIZERS = {"AdamW": "adamw", "AdamW 8-bit": "adamw8bit"}

# Newer widgets, optional so that older workflows stay valid.
MORE_SETTINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gradient_checkpointing": (
        list(CHECKPOINTING),
        {
            "default": "when needed",
            "tooltip": "Compute blocks again in the backward pass instead of keeping them: less "
            "memory, more time, the same result. When needed: only if the estimate does not fit.",
            "advanced": True,
        },
    ),
    "optimizer": (
        list(OPTIMIZERS),
        {
            "default": "AdamW",
            "tooltip": "The 8-bit form keeps its moments in a quarter of the memory. It needs the "
            "bitsandbytes package.",
            "advanced": True,
        },
    ),
    "checkpoint_every": (
        "INT",
        {
            "default": 0,
            "min": 0,
            "max": 100000,
            "tooltip": "Keep unfinished work in output/task_vectors/unfinished every so many "
            "steps: a stopped run then goes on from there when queued again. 0: never.",
            "advanced": True,
        },
    ),
}


def finetune_config(widgets: Mapping[str, Any]) -> FinetuneConfig:
    """The widgets as settings of the engine. Raises ConfigError."""
    hosts = ("gradient_checkpointing", "checkpoint_every")
    given = {name: value for name, value in widgets.items() if name not in hosts}
    optimizer = OPTIMIZERS[given.pop("optimizer", "AdamW")]
    rank = given.pop("rank") or None
    return FinetuneConfig(**given, rank=rank, optimizer=optimizer)
