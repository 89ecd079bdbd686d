#!/usr/bin/env bash
# Versions: diffusers 0.42.1, peft 0.21.2, torch 2.13.0.
# Input:    the state of a UNet DoRA: factors and one magnitude vector a module.
# Expected: convert_state_dict_to_kohya names the magnitudes MODULE.dora_scale, beside MODULE.alpha;
#           its source has a line for that.
# Seen:     that line is not reached for keys that begin with "unet". The magnitude keeps its PEFT
#           name under a module name that occurs nowhere else ("..._attn1.to_q" beside
#           "..._attn1_to_q"), so a host reads the file as a plain LoRA.
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
model.add_adapter(LoraConfig(r=4, target_modules=["to_q"], use_dora=True))
state = {f"unet.{key}": value for key, value in get_peft_model_state_dict(model).items()}
kohya = convert_state_dict_to_kohya(state)
modules = {key.split(".")[0] for key in kohya if key.endswith(".alpha")}
magnitudes = [key for key in kohya if "magnitude" in key or "dora_scale" in key]
print(len(modules), "modules, for example", min(modules))
print(len(magnitudes), "magnitudes, for example", min(magnitudes))
assert len(magnitudes) == len(modules) > 0
assert not any("dora_scale" in key for key in magnitudes), "diffusers changed"
assert not {key.split(".")[0] for key in magnitudes} & modules, "diffusers changed"
PY
