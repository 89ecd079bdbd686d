"""How large everything is. Read by both environments, so of the standard library alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

UNET_FILE, TEXT_FILE, GIVEN_FILE = "unet.safetensors", "text.safetensors", "given.safetensors"
RANK = 16
ASKED = (100, 900)  # timesteps at which the networks are compared
# What a LoRA of the published script covers, in its names and in ours.
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
ATTENTION_RULE = r"/\.attn[12]\.to_(q|k|v|out\.0)\.weight/"


@dataclass(frozen=True)
class Size:
    """unet, text: what diffusers and transformers are told of the shapes; the rest of theirs is
    SD1.5's. *side: of latents.

    A step of a fine-tune learns from `pictures`; of an inversion from `each` per embedding.
    """

    unet: dict[str, Any]
    text: dict[str, Any]
    side: int = 32
    pictures: int = 4
    inversion_side: int = 16
    each: int = 2
    embeddings: int = 16
    draw_steps: int = 4
    tokens: int = field(default=77, init=False)

    @property
    def width(self) -> int:
        """Of one token of the text encoder."""
        return int(self.text["hidden_size"])


TEXT = {"vocab_size": 49408, "max_position_embeddings": 77, "hidden_act": "quick_gelu"}
TRUE = Size(
    unet={"sample_size": 64, "cross_attention_dim": 768},
    text={
        **TEXT,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
)
# tests/host_support/tiny_host.py's.
TINY = Size(
    unet={
        "sample_size": 8,
        "cross_attention_dim": 32,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    },
    text={
        **TEXT,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    side=8,
    inversion_side=8,
    embeddings=4,
)
SIZES = {"true": TRUE, "tiny": TINY}


@dataclass(frozen=True)
class Place:
    """What a job is given. timed: steps or drawings that count, after the one that warms up.
    material: folder of the three files; work: one that it may write to."""

    size: Size
    timed: int
    tiny: bool
    material: Path
    work: Path
    comfyui: Path
