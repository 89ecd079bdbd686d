#!/usr/bin/env bash
# Versions: diffusers 0.42.1, peft 0.21.2, torch 2.13.0.
# Input:    the folder that save_lora_adapter of a UNet has just written.
# Expected: load_lora_adapter of the same class reads that folder, both calls left at their defaults
#           (prefix=None, since the file has no prefix).
# Seen:     the writer writes pytorch_lora_weights.safetensors, the reader looks for
#           pytorch_lora_weights.bin and raises OSError. With use_safetensors=True it reads.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 diffusers==0.42.1 peft==0.21.2 transformers==5.24.0 accelerate==1.15.0
venv/bin/python - <<'PY'
import os

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig


def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        cross_attention_dim=8, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
    )


first = unet()
first.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
first.save_lora_adapter("adapter")
assert os.listdir("adapter") == ["pytorch_lora_weights.safetensors"]
try:
    unet().load_lora_adapter("adapter", prefix=None)
    seen = "loaded"
except OSError as error:
    seen = str(error)
print("defaults:", seen)
unet().load_lora_adapter("adapter", prefix=None, use_safetensors=True)
print("use_safetensors=True: loaded")
assert "no file named pytorch_lora_weights.bin" in seen, "diffusers changed"
PY
