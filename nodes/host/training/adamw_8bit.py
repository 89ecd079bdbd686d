"""AdamW with 8-bit moments, from the optional bitsandbytes package."""

from __future__ import annotations

import importlib
from importlib import util

import torch

from ....tverase_core.errors import ConfigError
from ....tverase_core.finetuning.config import FinetuneConfig


def require_eight_bit(config: FinetuneConfig, checkpoint_every: int) -> None:
    """Raise ConfigError when 8-bit AdamW is asked for and cannot be had."""
    if config.optimizer != "adamw8bit":
        return
    if util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "8-bit AdamW needs the bitsandbytes package. Install it into ComfyUI's Python with "
            "'pip install bitsandbytes' and start ComfyUI again, or choose AdamW."
        )
    if checkpoint_every:
        raise ConfigError(
            "8-bit AdamW keeps no checkpoints. Set checkpoint_every to 0, or choose AdamW."
        )


def eight_bit_adamw(learned: list[torch.Tensor], config: FinetuneConfig) -> torch.optim.Optimizer:
    """AdamW of arXiv 2110.02861 (8-bit block-wise moments) with the settings of `config`."""
    package = importlib.import_module("bitsandbytes.optim")
    return package.AdamW8bit(
        learned, config.learning_rate, config.betas, weight_decay=config.weight_decay
    )
