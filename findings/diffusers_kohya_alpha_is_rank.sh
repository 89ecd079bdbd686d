#!/usr/bin/env bash
# Versions: diffusers 0.42.1, peft 0.21.2, torch 2.13.0.
# Input:    the state of a UNet LoRA with rank 4 and lora_alpha 1 (factor 0.25).
# Expected: convert_state_dict_to_kohya, whose result has an alpha a module, takes alpha from the
#           caller or leaves it out.
# Seen:     it writes alpha = rank everywhere and has no argument for it: a host that divides alpha
#           by rank applies this LoRA four times as strongly as it was trained.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 diffusers==0.42.1 peft==0.21.2 transformers==5.24.0 accelerate==1.15.0
venv/bin/python - <<'PY'
import torch
from diffusers import UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_kohya
from peft import LoraConfig, get_peft_model_state_dict


def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        cross_attention_dim=8, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
    )


model = unet()
model.add_adapter(LoraConfig(r=4, lora_alpha=1, target_modules=["to_q"]))
state = {f"unet.{key}": value for key, value in get_peft_model_state_dict(model).items()}
kohya = convert_state_dict_to_kohya(state)
alphas = {float(value) for key, value in kohya.items() if key.endswith(".alpha")}
print("alpha trained: 1.0, alpha written:", alphas)
assert alphas == {4.0}, "diffusers changed"
PY
