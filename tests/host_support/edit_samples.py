"""Small weights with real names, for the tests of the editing half."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tverase_core.model.fingerprint import BaseFingerprint, key_digest
from tverase_core.model.layout import ModelLayout, detect_layout
from tverase_core.vector.provenance import Provenance
from tverase_core.vector.rounding import Comparison, RoundingLoss
from tverase_core.vector.task_vector import TaskVector

SHAPES: dict[str, tuple[int, ...]] = {
    "diffusion_model.time_embed.0.weight": (8, 4),
    "diffusion_model.input_blocks.0.0.weight": (4, 3, 3, 3),
    "diffusion_model.input_blocks.1.0.in_layers.0.weight": (4,),
    "diffusion_model.input_blocks.1.0.in_layers.0.bias": (4,),
    "diffusion_model.input_blocks.1.0.in_layers.2.weight": (4, 4, 3, 3),
    "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_k.weight": (4, 4),
    "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (4, 6),
    "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_v.weight": (4, 6),
    "diffusion_model.input_blocks.1.1.transformer_blocks.0.ff.net.2.weight": (4, 16),
    "diffusion_model.input_blocks.2.0.op.weight": (4, 4, 3, 3),
    "diffusion_model.middle_block.1.proj_in.weight": (4, 4),
    "diffusion_model.output_blocks.0.0.skip_connection.weight": (4, 8, 1, 1),
    "diffusion_model.output_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (4, 6),
    "diffusion_model.out.2.bias": (3,),
}
LAYOUT: ModelLayout = detect_layout(SHAPES)
KEYS = sorted(SHAPES)
TEXT_KEY = "text_encoders.clip_l.transformer.text_model.encoder.layers.3.mlp.fc1.weight"
BASE = BaseFingerprint("sd-unet-4-6", key_digest(SHAPES), "1" * 64, "float32", "tiny.safetensors")


def weights(seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Values are multiples of 1/64 below 4: sums of a few of them are exact in float32."""
    source = torch.Generator().manual_seed(seed)
    return {
        key: (torch.randint(-200, 200, SHAPES[key], generator=source) / 64).to(dtype)
        for key in KEYS
    }


def vector(seed: int = 1, provenance: Provenance | None = None) -> TaskVector:
    return TaskVector(weights(seed), BASE, provenance or Provenance(concepts=(f"c{seed}",)))


def only(task_vector: TaskVector, wanted: Callable[[str], bool]) -> TaskVector:
    """The deltas whose key is wanted."""
    deltas = {key: delta for key, delta in task_vector.deltas.items() if wanted(key)}
    return task_vector.changed(deltas, "a part")


def compare_changes(meant: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> RoundingLoss:
    """How near real changes are to the meant ones, over all keys together."""
    total = Comparison()
    for key, wanted in meant.items():
        total.add(wanted, real[key])
    return total.loss()
