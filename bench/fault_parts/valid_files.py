"""Small valid files and texts, one of each form that a reader knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from tverase_core.files.compact import save_compact
from tverase_core.files.task_vector_file import save_task_vector
from tverase_core.inversion.files import save_inversion_set
from tverase_core.inversion.inversion_set import InversionSet
from tverase_core.model.block_mask import BlockMask
from tverase_core.model.fingerprint import BaseFingerprint
from tverase_core.storage.training_state import TrainingState, save_training_state
from tverase_core.vector.provenance import Parent, Provenance, Recommendation
from tverase_core.vector.task_vector import TaskVector

CROSS = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
CONV = "input_blocks.1.0.in_layers.2.weight"
NORM = "output_blocks.0.0.in_layers.0.weight"
SHAPES: dict[str, tuple[int, ...]] = {
    "input_blocks.0.0.weight": (4, 4, 3, 3),
    CONV: (4, 4, 3, 3),
    CONV.replace("weight", "bias"): (4,),
    CROSS: (4, 6),
    "middle_block.1.proj_in.weight": (4, 4),
    NORM: (4,),
    "out.2.bias": (4,),
}
UNET_KEYS = [f"diffusion_model.{key}" for key in SHAPES]
JOB = "0123456789abcdef"
MASKS = (
    "full",
    "IN01-M00=0.5, !OUT00",
    "kind:cross_attn=0.25; kind:*",
    r"/\.attn2\.to_[kv]\./, /blocks\.\d+\.1/=0.5",
    "cross_attention_kv\nIN*  # what reads the prompt",
    "full, M00=0.5, !kind:norm",
)
PROMPTS = ("a cat", "a dog | dog\na tree", "a {}", "cats/one", "checkpoints/base.safetensors", "*")
VALID_CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 4,
    "use_rslora": False,
    "init_lora_weights": True,
    "rank_pattern": {"attn2.to_k": 2},
    "alpha_pattern": {r"input_blocks\..*\.to_k": 8},
    "target_modules": ["to_k"],
}
LIST = """\
checkpoint: demo
output: erased
dtype: float32
retained: [a dog, a tree | tree]
finetune: {steps: 20, learning_rate: 1.0e-4}
concepts:
  - name: cat
    prompts: [a cat, a photo of a cat]
    strength: auto
    search: {target: 0.2}
  - name: fox
    prompts: a fox
    strength: 1.5
    pictures: {caption: "{prompt}", steps: 4}
"""


def weights(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return {k: torch.randn(shape, generator=source).to(dtype) for k, shape in SHAPES.items()}


def write_valid(folder: Path) -> dict[str, list[bytes]]:
    """Bytes of valid files by what they are; `folder` keeps base.safetensors."""
    parts = {"model.diffusion_model.": weights(0)}
    text = {"cond_stage_model.transformer.text_model.final_layer_norm.weight": torch.ones(4)}
    plain = {p + k: t for p, tensors in parts.items() for k, t in tensors.items()}
    (folder / "base.safetensors").write_bytes(save({**plain, **text}, {"modelspec.title": "base"}))
    bare = {f"diffusion_model.{k}": t.half() for k, t in weights(1).items()}
    return {
        "task vector": _task_vectors(folder),
        "inversion set": _inversion_sets(folder),
        "unfinished work": [_unfinished(folder)],
        "checkpoint": [
            save({**{k: t + 1 for k, t in plain.items()}, "v_pred": torch.zeros(0)}),
            save(bare, {"modelspec.prediction_type": "epsilon"}),
            save({k: t.bfloat16() for k, t in weights(2).items()}),
            save(_diffusers()),
        ],
        "shard": [save(_diffusers())],
        "LoRA": _loras(),
    }


def _written(path: Path) -> bytes:
    raw = path.read_bytes()
    path.unlink()
    return raw


def _task_vectors(folder: Path) -> list[bytes]:
    base = BaseFingerprint(
        "sd-unet-4-6", "1" * 64, "2" * 64, "float32", "base.safetensors", "AAAAAA=="
    )
    mask = BlockMask({"M00": 0.5}, {"norm": 0.0}, ((r"attn2\.to_k", 0.25),))
    story = Provenance(
        concepts=("cat",),
        recipe={"steps": 200, "rate": 1e-5},
        parents=(Parent("a" * 64, 1.5),),
        history=("low rank (rank 4)",),
        created="2026-01-31T12:00:00Z",
        title="cat",
        tags=("animal",),
        recommended=Recommendation(1.25, mask, "b" * 64),
    )
    deltas = dict(zip(UNET_KEYS, weights(3).values(), strict=True))
    deltas["diffusion_model.pos_embed"] = torch.ones(1, 2)
    path = folder / "x.tv.safetensors"
    save_task_vector(path, TaskVector(deltas, base, story))
    found = [_written(path)]
    save_task_vector(
        path, TaskVector(deltas, base, Provenance(concepts=("cat",))), dtype="bfloat16"
    )
    found.append(_written(path))
    thin = {f"diffusion_model.{CROSS}": torch.ones(12, 1) @ torch.ones(1, 10)}
    save_compact(path, TaskVector(thin, base, story), 0.1)
    return [*found, _written(path)]


def _inversion_sets(folder: Path) -> list[bytes]:
    found = []
    for towers in (("l",), ("l", "g")):
        made = InversionSet(
            vectors={tower: torch.ones(3, 1, 4) for tower in towers},
            losses=torch.ones(3),
            seeds=torch.arange(3),
            valid=torch.ones(3, dtype=torch.bool),
            concept="cat",
            template="a {}",
            text_encoder="0" * 16,
            hit_rates=torch.ones(3),
            objective={"steps": 5},
            notes=("one was dropped",),
        )
        path = folder / "x.inversions.safetensors"
        save_inversion_set(path, made, "stable-diffusion-v1", "2026-01-31T12:00:00Z")
        found.append(_written(path))
    return found


def _unfinished(folder: Path) -> bytes:
    learned = {"a": torch.ones(3), "b": torch.ones(2, 2)}
    moments = {f"exp_avg/{name}": value for name, value in learned.items()}
    state = TrainingState(2, learned, moments, {"a": torch.ones(3)}, torch.ones(2))
    save_training_state(folder / "x.safetensors", state, JOB)
    return _written(folder / "x.safetensors")


def _diffusers() -> dict[str, Tensor]:
    block = "down_blocks.0"
    return {
        "conv_in.weight": torch.ones(4, 4, 3, 3),
        f"{block}.resnets.0.conv1.weight": torch.ones(4, 4, 3, 3),
        f"{block}.attentions.0.transformer_blocks.0.attn2.to_k.weight": torch.ones(4, 6),
        "mid_block.resnets.0.conv1.weight": torch.ones(4, 4, 3, 3),
        "conv_out.bias": torch.ones(4),
    }


def _loras() -> list[bytes]:
    cross, conv = CROSS.removesuffix(".weight"), CONV.removesuffix(".weight")
    up, down = torch.ones(4, 2), torch.ones(2, 6)
    kohya = f"lora_unet_{cross.replace('.', '_')}"
    locon = f"lora_unet_{conv.replace('.', '_')}"
    peft = f"base_model.model.{cross}"
    return [
        save(
            {
                f"{kohya}.lora_up.weight": up,
                f"{kohya}.lora_down.weight": down,
                f"{kohya}.alpha": torch.tensor(1.0),
                f"{locon}.lora_up.weight": torch.ones(4, 2, 1, 1),
                f"{locon}.lora_down.weight": torch.ones(2, 4, 1, 1),
                f"{locon}.lora_mid.weight": torch.ones(2, 2, 3, 3),
                f"{locon}.alpha": torch.tensor(2.0),
                "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha": torch.tensor(1.0),
            },
            {"ss_network_dim": "2"},
        ),
        save({f"diffusion_model.{cross}.diff": torch.ones(4, 6), f"{locon}.diff_b": torch.ones(4)}),
        save({f"{peft}.lora_B.weight": up, f"{peft}.lora_A.weight": down.half()}),
    ]
