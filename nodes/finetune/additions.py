"""The widgets of Concept Fine-tune that are not in the paper, in their frozen order."""

from __future__ import annotations

from typing import Any, get_args

from ...tverase_core.finetuning.config import RateSchedule

ADDITIONS: dict[str, tuple[Any, dict[str, Any]]] = {
    "retained_weight": (
        "FLOAT",
        {
            "default": 0.3,
            "min": 0.0,
            "max": 1000.0,
            "step": 0.05,
            "tooltip": "How much the retained set counts. More harms it less and learns the "
            "concept more slowly. Without a retained set this does nothing.",
            "advanced": True,
        },
    ),
    "retained_strength": (
        "FLOAT",
        {
            "default": 2.0,
            "min": 0.1,
            "max": 100.0,
            "step": 0.1,
            "tooltip": "The retained set is kept for strengths from 0 to this one. Take about what "
            "you will apply.",
            "advanced": True,
        },
    ),
    "least_noise": (
        "FLOAT",
        {
            "default": 0.0,
            "min": 0.0,
            "max": 0.9,
            "step": 0.05,
            "tooltip": "Above 0: leaves out this share of the noise levels, the cleanest. They "
            "hold fine detail that all pictures share. 0 trains on all (the paper).",
            "advanced": True,
        },
    ),
    "rate_schedule": (
        list(get_args(RateSchedule)),
        {
            "default": "constant",
            "tooltip": "Cosine: the learning rate falls to almost zero towards the end, so the "
            "last steps even out noise. Constant is the paper's.",
            "advanced": True,
        },
    ),
    "guidance": (
        "FLOAT",
        {
            "default": 0.0,
            "min": 0.0,
            "max": 100.0,
            "step": 0.5,
            "tooltip": "0 learns the noise in the pictures (the paper). Above 0 learns what "
            "guidance of this strength adds for the concept's prompts: steadier, in fewer steps, "
            "and a strength near 1 erases. Take the CFG you draw with.",
            "advanced": True,
        },
    ),
}
