#!/usr/bin/env bash
# Versions: lycoris-lora 4.1.3, diffusers 0.42.1, torch 2.13.0.
# Input:    an untouched diffusers UNet2DConditionModel, given to lycoris.kohya.create_network with
#           its default preset.
# Expected: a network over the UNet: the default targets name modules of this very class.
# Seen:     AssertionError: the default targets find the time embedding twice, by the class of its
#           parent and by name. The preset "attn-mlp" goes through.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 diffusers==0.42.1 transformers==5.24.0 lycoris-lora==4.1.3
venv/bin/python - <<'PY'
import torch
from diffusers import UNet2DConditionModel
from lycoris import kohya


def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        cross_attention_dim=8, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
    )


def build(**preset):
    try:
        network = kohya.create_network(1.0, 4, 4.0, None, [], unet(), algo="lora", **preset)
    except AssertionError as error:
        return str(error)
    return f"{len(network.unet_loras)} modules"


default, attention = build(), build(preset="attn-mlp")
print("default:", default)
print("attn-mlp:", attention)
assert default == "duplicated lora name: lora_unet_time_embedding_linear_1", "lycoris changed"
assert attention.endswith("modules"), "lycoris changed"
PY
