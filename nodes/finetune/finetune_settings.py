"""The widgets of Concept Fine-tune, in their frozen order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from ...tverase_core.finetuning.config import FinetuneConfig, NoiseSampling, RateSchedule
from ..shared.widgets import Widgets, choice, number, switch, whole

SETTINGS: Widgets = {
    "steps": whole(200, (1, 100000), "Optimizer steps. The paper's code uses 200."),
    "learning_rate": number(
        1e-5,
        (1e-8, 1.0, 1e-6),
        "Learning rate: 1e-5 for full-size models (the paper's), about 1e-4 with "
        "a rank; 2e-4 for the demo model, 4e-4 there with a retained set.",
        round=False,
    ),
    "batch_size": whole(16, (1, 4096), "Pictures per optimizer step. The paper's code: 16."),
    "accumulation": whole(
        4,
        (1, 4096),
        "Parts that a batch is computed in. More parts need less memory "
        "and give the same result. Must divide batch_size.",
    ),
    "seed": whole(0, (0, 2**53), "Same seed, same task vector.", control_after_generate=False),
    "flip": switch(
        True,
        "Mirror latents at random, which nearly, not quite, is what the VAE makes of mirrored "
        "pictures. Off for text, faces with a side, and for the demo model.",
        advanced=True,
    ),
    "ema": switch(
        True,
        "Use the moving average of the weights, as the paper's code "
        "does. It makes the vector about a tenth shorter and smoother.",
        advanced=True,
    ),
    "weight_decay": number(
        0.01,
        (0.0, 1.0, 0.001),
        "AdamW's weight decay; it pulls the change towards zero.",
        advanced=True,
    ),
    "gradient_clip": number(
        1.0, (0.01, 1000.0, 0.1), "Largest gradient norm of a step.", advanced=True
    ),
    "rank": whole(
        -1,
        (-1, 1024),
        "0 trains full weights (the paper). Above 0 trains a change of "
        "that rank in each matrix: less memory. -1: full weights, but rank 16 for models of "
        "6 billion weights and more.",
        advanced=True,
    ),
}

# Of what needs less memory and more time.
WHEN: dict[str, bool | None] = {"when needed": None, "always": True, "never": False}
OPTIMIZERS = {"AdamW": "adamw", "AdamW 8-bit": "adamw8bit"}

# Newer widgets, optional so that older workflows stay valid.
MORE_SETTINGS: Widgets = {
    "gradient_checkpointing": choice(
        list(WHEN),
        "Compute blocks again in the backward pass instead of keeping them: less "
        "memory, more time, the same result. When needed: only if the estimate does not fit.",
        default="when needed",
        advanced=True,
    ),
    "fused_backward": choice(
        list(WHEN),
        "Move each weight as soon as its gradient is there, so that never all gradients lie in "
        "memory at once: less memory, more time (a second backward pass), the same result. Needs "
        "accumulation 1 and no retained set. When needed: only if nothing else fits.",
        default="when needed",
        advanced=True,
    ),
    "optimizer": choice(
        list(OPTIMIZERS),
        "The 8-bit form keeps its moments in a quarter of the memory. It needs the "
        "bitsandbytes package.",
        default="AdamW",
        advanced=True,
    ),
    "checkpoint_every": whole(
        0,
        (0, 100000),
        "Keep unfinished work in output/task_vectors/unfinished every so many "
        "steps: a stopped run then goes on from there when queued again. 0: never.",
        advanced=True,
    ),
}

# Not in the paper.
ADDITIONS: Widgets = {
    "retained_weight": number(
        0.3,
        (0.0, 1000.0, 0.05),
        "How much the retained set counts. More harms it less and learns the "
        "concept more slowly. Without a retained set this does nothing.",
        advanced=True,
    ),
    "retained_strength": number(
        2.0,
        (0.1, 100.0, 0.1),
        "The retained set is kept for strengths from 0 to this one. Take about what "
        "you will apply.",
        advanced=True,
    ),
    "least_noise": number(
        0.0,
        (0.0, 0.9, 0.05),
        "Above 0: leaves out this share of the noise levels, the cleanest. They "
        "hold fine detail that all pictures share. 0 trains on all (the paper).",
        advanced=True,
    ),
    "rate_schedule": choice(
        list(get_args(RateSchedule)),
        "Cosine: the learning rate falls to almost zero towards the end, so the "
        "last steps even out noise. Constant is the paper's.",
        default="constant",
        advanced=True,
    ),
    "guidance": number(
        0.0,
        (0.0, 100.0, 0.5),
        "0 is the paper's recipe: it learns the noise in the pictures. Above 0 is the guided "
        "recipe, our addition and a relative of ESD's: it learns what guidance of this strength "
        "adds for the concept's prompts. Steadier, in fewer steps, and a strength near 1 erases. "
        "Take the CFG you draw with.",
        advanced=True,
    ),
    "noise_sampling": choice(
        list(get_args(NoiseSampling)),
        "How noise levels are drawn. Uniform is the paper's. Logit-normal: fewer near either end, "
        "as flow-matching models are usually trained.",
        default="uniform",
        advanced=True,
    ),
}


def finetune_config(widgets: Mapping[str, Any], automatic: int | None = None) -> FinetuneConfig:
    """The widgets as settings of the engine. automatic: the rank that -1 stands for. Raises
    ConfigError."""
    hosts = ("gradient_checkpointing", "fused_backward", "checkpoint_every", "finished_work")
    given = {name: value for name, value in widgets.items() if name not in hosts}
    optimizer = OPTIMIZERS[given.pop("optimizer", "AdamW")]
    rank = given.pop("rank")
    rank = automatic if rank < 0 else rank or None
    return FinetuneConfig(**given, rank=rank, optimizer=optimizer)
