"""ComfyUI's own Train LoRA node. It trains adapters alone, on every matrix, and all biases."""

from __future__ import annotations

from typing import Any

import torch

from .clock import StepClock
from .host import Host
from .sizes import RANK, Place


def matrices(place: Place) -> dict[str, Any]:
    """The node's defaults but for float32 and no gradient checkpointing.

    One picture at a time, all pictures of a step one after the other: with several at once this
    version computes every picture under every caption and takes the mean.
    """
    host, clock = Host(place), StepClock(place.timed)
    from comfy_extras.nodes_train import TrainLoraNode

    model, given = host.model(), host.given
    host.follow(clock.on_bar)
    settings = {
        "batch_size": 1,
        "grad_accumulation_steps": place.size.pictures,
        "steps": place.timed + 2,
        "learning_rate": 5e-4,
        "rank": RANK,
        "optimizer": "AdamW",
        "loss_function": "MSE",
        "seed": 0,
        "training_dtype": "fp32",
        "lora_dtype": "fp32",
        "algorithm": "LoRA",
        "gradient_checkpointing": False,
        "existing_lora": "[None]",
    }
    with torch.inference_mode(), clock.running():
        TrainLoraNode.execute(
            model=[model],
            # One by one: a single batch it does not take, for want of a variable.
            latents=[{"samples": latent[None]} for latent in given["latents"]],
            positive=[[[given["empty"], {}]]],
            **{name: [value] for name, value in settings.items()},
        )
    return clock.report()
